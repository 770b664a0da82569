"""A speaker on an engine in this process; all that is asked at a time shares its continuous batch."""

from typing import Any

from tiller.engine import SteeredLLM
from tiller.engine.stepping import RefusedError
from tiller.evaluation.inputs import InputError

from .ask import Ask, AskError, Reply
from .grammar import json_grammar


class LocalSpeaker:
    """Answers by `llm`; several speakers may stand on one engine, in one event loop."""

    def __init__(self, llm: SteeredLLM) -> None:
        self.llm = llm
        self.tokenizer = llm.get_tokenizer()
        if not self.tokenizer.chat_template:
            raise InputError(
                "this model's tokenizer has no chat template, which Sotopia's turns are put through", "model"
            )

    async def ask(self, ask: Ask) -> Reply:
        """Raises AskError ("refused") where vLLM refuses the ask, SpecError where its steering is wrong."""
        prompt = {"prompt_token_ids": self._token_ids(ask)}
        try:
            output = await self.llm.stepping.answer(prompt, self.params(ask), ask.steering)
        except RefusedError as error:
            raise AskError("refused", str(error)) from error
        return _reply(output)

    async def close(self) -> None:
        """Leaves the engine to whoever made it."""

    def _token_ids(self, ask: Ask) -> list[int]:
        text = self.tokenizer.apply_chat_template(ask.messages, tokenize=False, add_generation_prompt=True)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def params(self, ask: Ask) -> Any:
        """vLLM's SamplingParams of an ask."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        structured = None if ask.schema is None else StructuredOutputsParams(grammar=json_grammar(ask.schema))
        return SamplingParams(
            temperature=ask.temperature,
            top_p=ask.top_p,
            seed=ask.seed,
            max_tokens=ask.max_tokens,
            structured_outputs=structured,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _reply(output: Any) -> Reply:
    answer = output.outputs[0]
    return Reply(
        text=answer.text,
        finish_reason=answer.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(answer.token_ids),
        receipt=None if output.steering is None else output.steering.to_dict(),
    )
