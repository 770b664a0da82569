"""The worker's side of steering: which request is in which table row, which token of a step is steered, and what came of it.

Both model runners drive it alike: `admit` and `release` as requests come and go, `begin_step` before a forward, `end_step`
after it. Nothing here knows which runner that is.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tiller.engine.inventory import Plan, VectorEntry
from tiller.engine.receipt import UnsteeredError, WorkerReceipt
from tiller.engine.spec import ID_KEY, ONLY_COMPLETION, SPEC_KEY, Scope, SteeringSpec, parse_spec
from tiller.kernels.sae import SAE
from tiller.kernels.workspace import Workspace

from .log import StepLog
from .program import SiteProgram, compile_spec
from .receipts import receipt_of
from .rows import RowPool
from .site import Batch, Site
from .steps import KernelSteps
from .tokens import SteeredTokens, steered_tokens

MAX_UNCLAIMED = (
    8192  # callers' ids with no request in the batch that are kept, at least; see `Steering._drop_unclaimed`
)


@dataclass
class Admitted:
    """A steered request that is in the batch."""

    row: int
    scope: Scope
    record: int  # its number in the log, -1 where nobody will ask
    slot: int  # of the model runner, -1 where it has none
    name: str | None = None  # the caller's id


@dataclass
class Record:
    """What outlives the request: enough to write its receipt."""

    spec: SteeringSpec
    scope: Scope
    num_reused: int  # tokens that were already computed when the request was last admitted


@dataclass(slots=True)
class StepUnderWay:
    """The step that the model runs or has just run; apart from the module, whose attributes are slow to set."""

    tokens: SteeredTokens | None = None  # what it does, where the host knows
    wanted: bool = False  # somebody may ask for a receipt of it
    idle: bool = True  # every site is


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
        self._site_list: list[Site] = list(self.sites.values())  # type: ignore[arg-type]
        self.rows = RowPool(max_num_seqs)
        self.admitted: dict[str, Admitted] = {}
        self.in_batch: set[str] = set()  # all requests of the last step, steered or not, where the runner has no hook
        self.records: OrderedDict[int, Record] = OrderedDict()
        self.record_ids: dict[str, dict[str, int]] = {}  # caller's id -> request id -> record
        self._in_batch_of: Counter[str] = Counter()  # requests in the batch, by caller's id
        self._waiting: OrderedDict[str, None] = OrderedDict()  # callers' ids with records and no request in the batch
        self._max_waiting = max(MAX_UNCLAIMED, 8 * max_num_seqs)
        self.log = StepLog()
        self._next_record = 0
        self.kernels: KernelSteps | None = None
        self._step = StepUnderWay()
        self._programs: OrderedDict[str, dict[int, SiteProgram]] = OrderedDict()

    def site_list(self) -> list[Site]:
        return self._site_list

    def use_kernels(self, workspace: Workspace, num_slots: int) -> None:
        """From now on Triton steers, over `workspace`; `num_slots` requests can be in the batch."""
        self.kernels = KernelSteps(workspace, self.site_list(), num_slots)

    def describe(self) -> dict[str, Any]:
        """How this worker steers."""
        if self.kernels is None:
            return {"kernels": "reference", "scratch_bytes": 0}
        return {"kernels": "triton", "scratch_bytes": self.kernels.workspace.num_bytes}

    def admit(
        self, req_id: str, extra_args: dict[str, Any] | None, prompt_len: int, num_computed: int, slot: int = -1
    ) -> None:
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
        name = (extra_args or {}).get(ID_KEY)
        record = self._record(req_id, name, Record(spec, scope, num_computed))
        self.admitted[req_id] = Admitted(row, scope, record, slot, name)
        if self.kernels and slot >= 0:
            self.kernels.place(slot, (row, scope.lo, scope.hi, record))

    def release(self, req_id: str) -> None:
        """Forgets a request that left the batch, finished or preempted; its record stays until claimed."""
        gone = self.admitted.pop(req_id, None)
        if gone is not None:
            self.rows.release(gone.row)
            self._leave(gone.name)
            if self.kernels and gone.slot >= 0:
                self.kernels.place(gone.slot, (0, 0, 0, 0))

    def begin_step(self, req_ids: Sequence[str], query_start_loc: NDArray, positions: Tensor) -> None:
        """Lays out the next forward: request i owns tokens query_start_loc[i] up to [i + 1] of `positions` [num_tokens]."""
        self.end_step()
        owners = [(i, a.row, a.scope.lo, a.scope.hi, self._logged(a)) for i, a in self._present(req_ids)]
        if not owners:
            return
        tokens = steered_tokens(np.array(owners, dtype=np.int64), query_start_loc, positions.cpu().numpy())
        if not len(tokens.token):
            return
        self._step.tokens, self._step.wanted = tokens, bool((tokens.record >= 0).any())
        batch = None
        if self.kernels:
            self.kernels.begin_on_host(tokens, len(positions))
        else:
            batch = Batch(
                tokens=torch.from_numpy(tokens.token).to(positions.device),
                rows=torch.from_numpy(tokens.row).to(positions.device),
                whole=len(tokens.token) == len(positions) and query_start_loc[0] == 0,
            )
        self._begin_sites(batch, set(tokens.row.tolist()))

    def begin_step_on_device(
        self, req_ids: Sequence[str], query_start_loc: Tensor, idx_mapping: Tensor, positions: Tensor
    ) -> None:
        """The same where only the device knows the layout: request i is in slot idx_mapping[i]. Waits for nothing."""
        assert self.kernels is not None
        self.end_step(idle=False)
        present = self._present(req_ids)
        if not present:
            self.kernels.idle()
            return
        self._step.wanted = any(self._logged(admitted) >= 0 for _, admitted in present)
        self.kernels.begin_on_device(query_start_loc, idx_mapping, positions)
        self._begin_sites(None, {admitted.row for _, admitted in present})

    def _begin_sites(self, batch: Batch | None, rows: set[int]) -> None:
        self._step.idle = not rows
        for site in self._site_list:
            site.begin(batch, rows)

    def _present(self, req_ids: Sequence[str]) -> list[tuple[int, Admitted]]:
        """Steered requests of a batch, with their place in it."""
        if not self.admitted:
            return []
        return [(index, found) for index, req_id in enumerate(req_ids) if (found := self.admitted.get(req_id))]

    def _logged(self, admitted: Admitted) -> int:
        return admitted.record if admitted.record in self.records else -1

    def end_step(self, idle: bool = True) -> None:
        """Moves what the last forward did into the log and makes the sites idle; safe to call again."""
        step = self._step
        tokens, wanted = step.tokens, step.wanted
        step.tokens, step.wanted = None, False
        if self.kernels:
            if wanted:
                self.log.append_later(self.kernels.transfer())
            if idle:
                self.kernels.idle()
        elif tokens is not None and wanted:
            reports = {site.layer: site.step.report for site in self._site_list if site.step.report is not None}
            if reports:
                self.log.append(tokens.record, tokens.position, reports)
        if not step.idle:
            self._begin_sites(None, set())

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
        for name in names:
            self._waiting.pop(name, None)
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
        self._in_batch_of[name] += 1
        self._waiting.pop(name, None)
        if req_id in mine:
            self.records[mine[req_id]].num_reused = max(self.records[mine[req_id]].num_reused, record.num_reused)
            return mine[req_id]
        self._next_record += 1
        mine[req_id] = self._next_record
        self.records[self._next_record] = record
        self._drop_unclaimed()
        return self._next_record

    def _leave(self, name: str | None) -> None:
        """A request of the caller's id `name` has left the batch."""
        if name is None:
            return
        self._in_batch_of[name] -= 1
        if not self._in_batch_of[name]:
            del self._in_batch_of[name]
            if name in self.record_ids:
                self._waiting[name] = None

    def _drop_unclaimed(self) -> None:
        """Drops the records of callers that can't be there any more.

        Front ends claim within a few steps of a request's end and keep far fewer requests open than the bound, so a
        caller's id that waits behind so many others has been lost by its front end. Dropped an eighth at a time, since
        each drop goes through the log.
        """
        if len(self._waiting) > self._max_waiting + self._max_waiting // 8:
            surplus = len(self._waiting) - self._max_waiting
            self.drop([name for name, _ in zip(self._waiting, range(surplus), strict=False)])

    def _take(self, name: str, index: int) -> int | None:
        """The record of completion `index`; vLLM names the children of a request with n > 1 `<index>_<id>`."""
        mine = self.record_ids.get(name, {})
        for req_id in mine:
            if index == ONLY_COMPLETION or req_id.startswith(f"{index}_"):
                self.release(req_id)
                number = mine.pop(req_id)
                if not mine:
                    del self.record_ids[name]
                    self._waiting.pop(name, None)
                return number
        return None
