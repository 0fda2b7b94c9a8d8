/* Preloaded into a server behind the runtime of AddressSanitizer, and initialized before everything else.

   Uses malloc() at once, which has that runtime initialize itself here rather than inside the dynamic linker, where it would
   hang. And holds the options of UndefinedBehaviorSanitizer: it looks for them at its first report, when the server's process
   title lies over the environment. */
#include <stdlib.h>

__attribute__((constructor)) static void first(void) {
    void *volatile memory = malloc(1);
    free(memory);
}

const char *__ubsan_default_options(void) { return "print_stacktrace=1"; }
