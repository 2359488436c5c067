// A plugin with Arenal and a libc of its own, in another namespace of the loader. See namespace_plugin.c.
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    void *plugin = count > 1 ? dlmopen(LM_ID_NEWLM, arguments[1], RTLD_NOW) : NULL;
    int (*go)(void) = plugin ? (int (*)(void))dlsym(plugin, "go") : NULL;

    if (!go) {
        fprintf(stderr, "%s\n", dlerror());
        return 9;
    }
    return go();
}
