"""Makes Triton's interpreter about three times faster: it wraps all of triton.language again at every call of one device
function by another, also where that was just done."""


def install() -> None:
    """Lets a nested call find the language as the kernel's launch has left it."""
    import triton.language as tl
    from triton.runtime import interpreter

    def call(self, *args, **kwargs):
        modules = [m for m in self.fn.__globals__.values() if m is tl or m is tl.core]
        if any(tl.core.is_builtin(module.load) for module in modules):
            interpreter._patch_lang(self.fn)
        try:
            return self.rewrite()(*args, **kwargs)
        except Exception as error:
            raise interpreter.InterpreterError(repr(error)) from error

    interpreter.InterpretedFunction.__call__ = call
