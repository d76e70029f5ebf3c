/* The folder $COTENANT_FAKE_NVML, NVML's types, and how every function begins. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long u64;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; u64 bytes; unsigned gpu, compute; } Process;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { void *device; u64 type, data; unsigned gpu, compute; } Event;
typedef struct { long position; unsigned devices; } EventSet;

enum { OK = 0, UNINITIALIZED = 1, BAD_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10 };
enum { MOST_DEVICES = 16, MOST_PROCESSES = 256, XID = 8 };
#define NOT_AVAILABLE (~0ULL)
#define HOST_PIDS 1000000u

static int handles[MOST_DEVICES];
static int initialized;

static const char *const WORDS[] = {
    "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions", "Already Initialized",
    "Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded", "Timeout", "Interrupt Request Issue",
    "NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM", "GPU is lost", "GPU requires restart",
    "The operating system has blocked the request.", "RM has detected an NVML/RM version mismatch.", "In use",
    "Insufficient Memory", "No data", "vGPU does not support ECC", "Insufficient Resources"};

const char *nvmlErrorString(int code) {
    return code >= 0 && code < (int)(sizeof WORDS / sizeof *WORDS) ? WORDS[code] : "Unknown Error";
}

/* --- the folder -------------------------------------------------------------------------------------------------------- */

static FILE *state(const char *name) {
    const char *folder = getenv("COTENANT_FAKE_NVML");
    char path[4096];
    if (!folder) return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "r");
}

/* The rest of the line that begins with `key`. */
static int value(const char *name, const char *key, char *into, size_t room) {
    char line[1024];
    size_t length = strlen(key);
    int found = 0;
    FILE *file = state(name);
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(into, room, "%s", line + length + 1);
            found = 1;
        }
    fclose(file);
    return found;
}

/* What the function was told to fail with. "*" is every question about a device. */
static int planted(const char *function, int device) {
    char line[256], name[128];
    int code, only, result = OK;
    FILE *file = state("fail");
    if (!file) return OK;
    while (fgets(line, sizeof line, file)) {
        int fields = sscanf(line, "%127s %d %d", name, &code, &only);
        int every = !strcmp(name, "*") && !strncmp(function, "nvmlDeviceGet", 13) && device >= 0;
        if (fields < 2 || (fields == 3 && only != device)) continue;
        if (every || !strcmp(name, function)) result = code;
    }
    fclose(file);
    return result;
}

static int index_of(void *handle) {
    for (int index = 0; index < MOST_DEVICES; index++)
        if (handle == &handles[index]) return index;
    return -1;
}

static int attribute(void *handle, const char *key, char *into, size_t room) {
    char name[32];
    snprintf(name, sizeof name, "devices/%d", index_of(handle));
    if (!value(name, key, into, room) || !strcmp(into, "N/A")) return NOT_SUPPORTED;
    return OK;
}

static int number(void *handle, const char *key, u64 *into) {
    char text[256];
    int code = attribute(handle, key, text, sizeof text);
    if (code == OK) *into = strtoull(text, NULL, 0);
    return code;
}

static u64 amount(void *handle, const char *key) {
    u64 found = 0;
    return number(handle, key, &found) == OK ? found : 0;
}

#define ENTER(device)                                                  \
    do {                                                               \
        int code_ = initialized ? planted(__func__, device) : UNINITIALIZED; \
        if (code_ != OK) return code_;                                 \
    } while (0)
#define ENTER_DEVICE                                  \
    do {                                              \
        if (index_of(handle) < 0) return BAD_ARGUMENT; \
        ENTER(index_of(handle));                      \
    } while (0)
