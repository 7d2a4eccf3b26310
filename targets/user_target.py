"""A user's own kernel, runtime or pass as a target, named ``MODULE:NAME``."""

from __future__ import annotations

from shakeout.corpus.user_objects import Kernel, NotDeclared, find
from shakeout.targets.compilers.declare import Rewrite
from shakeout.targets.compilers.user import UserRewrite, user_rewrite
from shakeout.targets.kernels.user import UserKernel, user_kernel
from shakeout.targets.offload.declare import Runtime
from shakeout.targets.offload.runtime import RuntimeTarget, user_runtime
from shakeout.targets.target import UnknownTarget

__all__ = ["declared"]


def declared(name: str) -> UserKernel | RuntimeTarget | UserRewrite:
    """The target that a user declared; imports the user's module.

    Raises:
        UnknownTarget: there is no such module or name, or it is not declared; the message says what to do.
    """
    try:
        found = find(name)
    except NotDeclared as error:
        raise UnknownTarget(str(error)) from error
    match found:
        case Kernel():
            return user_kernel(name)
        case Runtime():
            return user_runtime(name)
        case Rewrite():
            return user_rewrite(name, found)
    raise UnknownTarget(f"{name} is a {type(found).__name__}, which is no target")
