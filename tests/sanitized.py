"""What a program was built with."""
import functools
import pathlib


@functools.cache
def is_sanitized(binary):
    """Whether a sanitizer is built in, which takes memory and time of its own."""
    code = pathlib.Path(binary).read_bytes()
    return b"__asan_init" in code or b"__tsan_init" in code
