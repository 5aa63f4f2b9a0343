/* Exports what backends of earlier releases did. Nobody may call it. */
#include <stdlib.h>

__attribute__((visibility("default"))) void *moerunCreateDevice2(void) {
  abort();
}
