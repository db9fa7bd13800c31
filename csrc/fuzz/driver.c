/* Runs fuzz_kernels.c where the compiler brings no libFuzzer: the given files, then mutations of them, for so many seconds.
 * Not guided by coverage; the same inputs for the same files.
 *
 *     driver SECONDS FILE...
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LONGEST = 1 << 14, FILES = 1024 };

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t next(uint32_t below) { /* xorshift64* */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1du) >> 32) % below;
}

int main(int argc, char **argv) {
    static uint8_t seeds[FILES][LONGEST], input[LONGEST];
    static size_t lengths[FILES];
    uint32_t files = 0;
    for (int i = 2; i < argc && files < FILES; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) return perror(argv[i]), 1;
        lengths[files] = fread(seeds[files], 1, LONGEST, file);
        fclose(file);
        LLVMFuzzerTestOneInput(seeds[files], lengths[files]);
        files++;
    }
    if (files == 0) return fprintf(stderr, "no files to start from\n"), 1;
    const double seconds = atof(argv[1]);
    const time_t start = time(NULL);
    unsigned long runs = files;
    while (difftime(time(NULL), start) < seconds) {
        const uint32_t seed = next(files);
        size_t length = lengths[seed];
        memcpy(input, seeds[seed], length);
        for (uint32_t edits = 1 + next(8); edits > 0; edits--) {
            switch (next(4)) {
            case 0: /* the head says what is called, and how */
                if (length) input[next((uint32_t)(length < 24 ? length : 24))] = (uint8_t)next(256);
                break;
            case 1:
                if (length) input[next((uint32_t)length)] ^= (uint8_t)(1u << next(8));
                break;
            case 2: length = next((uint32_t)length + 1); break;
            default:
                for (uint32_t more = next(256); more > 0 && length < LONGEST; more--)
                    input[length++] = (uint8_t)next(256);
            }
        }
        /* A buffer of the exact length, so that a read beyond it is seen. */
        uint8_t *exact = malloc(length ? length : 1);
        if (exact == NULL) return 1;
        memcpy(exact, input, length);
        LLVMFuzzerTestOneInput(exact, length);
        free(exact);
        runs++;
    }
    printf("%lu inputs, none of which a kernel fails on\n", runs);
    return 0;
}
