"""The worker's side of steering: which request is in which table row, which token of a step is steered, and what came of it.

Both model runners drive it alike: `admit` and `release` as requests come and go, `begin_step` before a forward, `end_step`
after it. Nothing here knows which runner that is.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tiller.kernels.sae import SAE

from .log import StepLog
from .plan import Plan, VectorEntry
from .program import SiteProgram, compile_spec
from .receipt import UnsteeredError, WorkerReceipt, receipt_of
from .rows import RowPool
from .site import Batch, Site
from .spec import Scope, SteeringSpec, parse_spec

SPEC_KEY = "steering"  # in SamplingParams.extra_args
ID_KEY = "steering_id"  # the caller's name for the request, to ask for its receipt; none asked, none kept
ONLY_COMPLETION = -1  # index of the completion of a request with n = 1
MAX_UNCLAIMED = 8192  # records of finished requests kept for a caller that may still ask


@dataclass
class Admitted:
    """A steered request that is in the batch."""

    row: int
    scope: Scope
    record: int  # its number in the log, -1 where nobody will ask


@dataclass
class Record:
    """What outlives the request: enough to write its receipt."""

    spec: SteeringSpec
    scope: Scope
    num_reused: int  # tokens that were already computed when the request was last admitted


class Steering(nn.Module):
    """All steering state of one model in one worker."""

    def __init__(
        self, plan: Plan, saes: dict[str, SAE], vectors: dict[str, Tensor], d_model: int, max_num_seqs: int
    ) -> None:
        super().__init__()
        self.plan, self.saes, self.vectors = plan, saes, vectors
        limits = (plan.max_edits, plan.max_projections)
        self.sites = nn.ModuleDict()
        for layer in plan.layers:
            site = Site(layer, {name: saes[name] for name in plan.saes_at(layer)}, max_num_seqs + 1, d_model, limits)
            site.capture = plan.capture
            self.sites[str(layer)] = site
        self.rows = RowPool(max_num_seqs)
        self.admitted: dict[str, Admitted] = {}
        self.in_batch: set[str] = set()  # all requests of the last step, steered or not, where the runner has no hook
        self.records: OrderedDict[int, Record] = OrderedDict()
        self.record_ids: dict[str, dict[str, int]] = {}  # caller's id -> request id -> record
        self.log = StepLog()
        self._next_record = 0
        self._pending: tuple[NDArray, NDArray] | None = None
        self._programs: OrderedDict[str, dict[int, SiteProgram]] = OrderedDict()

    def site_list(self) -> list[Site]:
        return list(self.sites.values())  # type: ignore[arg-type]

    def admit(self, req_id: str, extra_args: dict[str, Any] | None, prompt_len: int, num_computed: int) -> None:
        """Takes note of a request that entered the batch, for the first time or after a preemption."""
        given = (extra_args or {}).get(SPEC_KEY)
        if given is None:
            return
        spec = parse_spec(given)
        if spec.idle:
            return
        self.release(req_id)
        scope = spec.scope(prompt_len)
        programs = self._compiled(spec)
        row, fresh = self.rows.acquire(spec.program_key)
        if fresh:
            for site in self.site_list():
                site.write_row(row, programs.get(site.layer))
        record = self._record(req_id, (extra_args or {}).get(ID_KEY), Record(spec, scope, num_computed))
        self.admitted[req_id] = Admitted(row, scope, record)

    def release(self, req_id: str) -> None:
        """Forgets a request that left the batch, finished or preempted; its record stays until claimed."""
        gone = self.admitted.pop(req_id, None)
        if gone is not None:
            self.rows.release(gone.row)

    def begin_step(self, req_ids: Sequence[str], query_start_loc: NDArray, positions: Tensor) -> None:
        """Lays out the next forward: request i owns tokens query_start_loc[i] up to [i + 1] of `positions` [num_tokens]."""
        self.end_step()
        if not self.admitted:
            return
        present = [(index, found) for index, req_id in enumerate(req_ids) if (found := self.admitted.get(req_id))]
        if not present:
            return
        owners = np.array(
            [(i, a.row, a.scope.lo, a.scope.hi, a.record if a.record in self.records else -1) for i, a in present],
            dtype=np.int64,
        )
        starts, ends = query_start_loc[owners[:, 0]], query_start_loc[owners[:, 0] + 1]
        lengths = ends - starts
        owner = np.repeat(np.arange(len(owners)), lengths)
        token = (
            np.arange(int(lengths.sum()))
            - np.repeat(np.cumsum(lengths) - lengths, lengths)
            + np.repeat(starts, lengths)
        )
        position = positions.cpu().numpy()[token]
        inside = (position >= owners[owner, 2]) & (position < owners[owner, 3])
        if not inside.any():
            return
        owner, token, position = owner[inside], token[inside], position[inside]
        rows = owners[owner, 1]
        self._pending = (owners[owner, 4], position)
        device = positions.device
        batch = Batch(
            tokens=torch.from_numpy(token).to(device),
            rows=torch.from_numpy(rows).to(device),
            whole=len(token) == len(positions) and query_start_loc[0] == 0,
        )
        distinct = np.unique(rows).tolist()
        for site in self.site_list():
            site.begin(batch, distinct)

    def end_step(self) -> None:
        """Moves what the last forward did into the log and makes the sites idle; safe to call again."""
        if self._pending is None:
            return
        records, positions = self._pending
        self._pending = None
        reports = {site.layer: site.report for site in self.site_list() if site.report is not None}
        for site in self.site_list():
            site.begin(None, [])
        if reports and (records >= 0).any():
            self.log.append(records, positions, reports)

    def claim(self, asked: list[tuple[str, int, int]]) -> list[WorkerReceipt | None]:
        """Receipts for (caller's id, index of the completion, tokens fed to the model); a claimed record is gone, and so
        is the request's hold of its row.

        None where this worker never saw the request steered, {"unsteered": why} where tokens of it passed unsteered.
        """
        self.end_step()
        numbers = [self._take(name, index) for name, index, _ in asked]
        taken = self.log.take({number for number in numbers if number is not None})
        receipts: list[WorkerReceipt | None] = []
        for number, (_, _, num_fed) in zip(numbers, asked, strict=True):
            record = None if number is None else self.records.pop(number, None)
            receipts.append(None if record is None else self._receipt(record, taken.get(number, {}), num_fed))  # type: ignore[arg-type]
        return receipts

    def drop(self, names: list[str]) -> None:
        """Forgets the requests of these callers' ids, which ended without anybody to claim a receipt."""
        self.end_step()
        gone = [item for name in names for item in self.record_ids.pop(name, {}).items()]
        for req_id, number in gone:
            self.release(req_id)
            self.records.pop(number, None)
        self.log.take({number for _, number in gone})

    def add_vector(self, key: str, entry: VectorEntry, vector: Tensor) -> None:
        """Makes `vector` [d_model] known as `key`; its layer has a site."""
        self.vectors[key] = vector.to(self.site_list()[0].table.shift.device)
        self.plan = self.plan.model_copy(update={"vectors": {**self.plan.vectors, key: entry}})

    def remove_vector(self, key: str) -> None:
        """Forgets a vector that no request names any more."""
        self.vectors.pop(key, None)
        left = {name: entry for name, entry in self.plan.vectors.items() if name != key}
        self.plan = self.plan.model_copy(update={"vectors": left})

    def _receipt(self, record: Record, columns: dict[str, NDArray], num_fed: int) -> WorkerReceipt:
        programs = self._compiled(record.spec)
        try:
            return receipt_of(record.spec, self.plan, programs, record.scope, record.num_reused, columns, num_fed)
        except UnsteeredError as error:
            return {"unsteered": str(error)}

    def _compiled(self, spec: SteeringSpec) -> dict[int, SiteProgram]:
        if spec.program_key not in self._programs:
            self.plan.check(spec)
            self._programs[spec.program_key] = compile_spec(spec, self.plan, self.saes, self.vectors)
            if len(self._programs) > 1024:
                self._programs.popitem(last=False)
        return self._programs[spec.program_key]

    def _record(self, req_id: str, name: str | None, record: Record) -> int:
        if name is None:
            return -1
        mine = self.record_ids.setdefault(name, {})
        if req_id in mine:
            self.records[mine[req_id]].num_reused = max(self.records[mine[req_id]].num_reused, record.num_reused)
            return mine[req_id]
        self._next_record += 1
        mine[req_id] = self._next_record
        self.records[self._next_record] = record
        self._drop_unclaimed()
        return self._next_record

    def _drop_unclaimed(self) -> None:
        live = {admitted.record for admitted in self.admitted.values()}
        while len(self.records) > MAX_UNCLAIMED and (oldest := next(iter(self.records))) not in live:
            del self.records[oldest]
            self.log.take({oldest})
            self.record_ids = {k: v for k, v in self.record_ids.items() if oldest not in v.values()}

    def _take(self, name: str, index: int) -> int | None:
        """The record of completion `index`; vLLM names the children of a request with n > 1 `<index>_<id>`."""
        mine = self.record_ids.get(name, {})
        for req_id in mine:
            if index == ONLY_COMPLETION or req_id.startswith(f"{index}_"):
                self.release(req_id)
                number = mine.pop(req_id)
                if not mine:
                    del self.record_ids[name]
                return number
        return None
