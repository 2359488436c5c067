"""The other allocators: where Debian installs them."""

import os
import sysconfig

# name: ((library, packages of Debian that have had it), ...), what is preferred first
DEBIAN = {
    "jemalloc": (("libjemalloc.so.2", ["libjemalloc2"]),),
    "mimalloc": (("libmimalloc.so.3", ["libmimalloc3"]), ("libmimalloc.so.2", ["libmimalloc2.0"])),
    "tcmalloc": (("libtcmalloc_minimal.so.4", ["libtcmalloc-minimal4", "libtcmalloc-minimal4t64"]),
                 ("libtcmalloc.so.4", ["libgoogle-perftools4", "libgoogle-perftools4t64"])),
    "tbbmalloc": (("libtbbmalloc_proxy.so.2", ["libtbbmalloc2"]),),
}


def find(name):
    """The path of the allocator's library, or None."""
    for library, _ in DEBIAN[name]:
        for folder in _library_folders():
            path = os.path.join(folder, library)
            if os.path.exists(path):
                return path
    return None


def _library_folders():
    multiarch = sysconfig.get_config_var("MULTIARCH")
    return ([f"/usr/lib/{multiarch}"] if multiarch else []) + ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
