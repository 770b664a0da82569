"""First on PYTHONPATH, this makes vLLM believe that Triton runs on the CPU, so that the GPU's model runner (V2) can be
tested there: its kernels then run in Triton's interpreter."""

import os

if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1" and os.environ.get("TRITON_INTERPRET") == "1":
    import triton.backends as backends
    from triton.backends.compiler import GPUTarget

    class CPUDriver:
        """Says that a CPU target is there; nothing is compiled for it."""

        @staticmethod
        def is_active() -> bool:
            return True

        @staticmethod
        def get_current_target() -> GPUTarget:
            return GPUTarget("cpu", 0, 1)

    backends.backends["cpu"] = backends.Backend(compiler=None, driver=CPUDriver)

    import quick_interpreter

    quick_interpreter.install()
