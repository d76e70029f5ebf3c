/* A libnvidia-ml that plays what the folder $COTENANT_FAKE_NVML says; read anew at every call. tests/nvml.py writes the folder. */
#include "state.h"

/* --- the library and the driver ----------------------------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    char text[64];
    (void)flags;
    int code = planted(__func__, -1);
    if (code != OK) return code;
    if (!value("system", "driver", text, sizeof text)) return NO_DRIVER;
    initialized++;
    return OK;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!initialized) return UNINITIALIZED;
    initialized--;
    return OK;
}

static int system_text(const char *key, char *into, unsigned room) {
    return value("system", key, into, room) ? OK : NOT_SUPPORTED;
}

int nvmlSystemGetDriverVersion(char *into, unsigned room) { ENTER(-1); return system_text("driver", into, room); }
int nvmlSystemGetNVMLVersion(char *into, unsigned room) { ENTER(-1); return system_text("library", into, room); }

int nvmlSystemGetCudaDriverVersion_v2(int *into) {
    char text[64];
    ENTER(-1);
    if (system_text("cuda", text, sizeof text) != OK) return NOT_SUPPORTED;
    *into = atoi(text);
    return OK;
}

int nvmlSystemGetCudaDriverVersion(int *into) { return nvmlSystemGetCudaDriverVersion_v2(into); }

int nvmlSystemGetProcessName(unsigned pid, char *into, unsigned room) {
    char path[64];
    ENTER(-1);
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *file = fopen(path, "r");
    if (!file) return NOT_FOUND;
    char *read = fgets(into, (int)room, file);
    fclose(file);
    if (!read) return NOT_FOUND;
    into[strcspn(into, "\n")] = 0;
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char name[32], text[8];
    ENTER(-1);
    for (*count = 0; *count < MOST_DEVICES; ++*count) {
        snprintf(name, sizeof name, "devices/%u", *count);
        if (!value(name, "name", text, sizeof text)) break;
    }
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    unsigned count = 0;
    ENTER((int)index);
    int code = nvmlDeviceGetCount_v2(&count);
    if (code != OK) return code;
    if (index >= count) return BAD_ARGUMENT;
    *handle = &handles[index];
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    char text[96];
    ENTER(-1);
    for (unsigned index = 0; index < MOST_DEVICES; index++)
        if (attribute(&handles[index], "uuid", text, sizeof text) == OK && !strcmp(text, uuid))
            return nvmlDeviceGetHandleByIndex_v2(index, handle);
    return NOT_FOUND;
}

/* --- one device ---------------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetName(void *handle, char *into, unsigned room) { ENTER_DEVICE; return attribute(handle, "name", into, room); }
int nvmlDeviceGetUUID(void *handle, char *into, unsigned room) { ENTER_DEVICE; return attribute(handle, "uuid", into, room); }

int nvmlDeviceGetIndex(void *handle, unsigned *into) {
    ENTER_DEVICE;
    *into = (unsigned)index_of(handle);
    return OK;
}

int nvmlDeviceGetPciInfo_v3(void *handle, Pci *into) {
    ENTER_DEVICE;
    memset(into, 0, sizeof *into);
    return attribute(handle, "pci", into->bus_id, sizeof into->bus_id);
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    char text[32];
    ENTER_DEVICE;
    int code = attribute(handle, "capability", text, sizeof text);
    return code != OK ? code : sscanf(text, "%d.%d", major, minor) == 2 ? OK : NOT_SUPPORTED;
}

static int pair(void *handle, const char *key, unsigned *now, unsigned *pending) {
    u64 found;
    int code = number(handle, key, &found);
    if (code == OK) *now = *pending = (unsigned)found;
    return code;
}

int nvmlDeviceGetEccMode(void *handle, unsigned *now, unsigned *pending) { ENTER_DEVICE; return pair(handle, "ecc", now, pending); }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) { ENTER_DEVICE; return pair(handle, "mig", now, pending); }

static int whole(void *handle, const char *key, unsigned *into) { unsigned also; return pair(handle, key, into, &also); }

#define WHOLE(function, key) \
    int function(void *handle, unsigned *into) { ENTER_DEVICE; return whole(handle, key, into); }

WHOLE(nvmlDeviceGetPersistenceMode, "persistence")
WHOLE(nvmlDeviceGetPowerManagementLimit, "power_limit")
WHOLE(nvmlDeviceGetEnforcedPowerLimit, "power_limit")
WHOLE(nvmlDeviceGetPowerUsage, "power")
WHOLE(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_gen")
WHOLE(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
WHOLE(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen_max")
WHOLE(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")

/* "auto": what it was at a moment, and what the power has added up to since. */
int nvmlDeviceGetTotalEnergyConsumption(void *handle, u64 *millijoules) {
    char text[64];
    struct timespec now;
    ENTER_DEVICE;
    int code = attribute(handle, "energy", text, sizeof text);
    if (code != OK) return code;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)now.tv_sec + now.tv_nsec / 1e9;
    if (strcmp(text, "auto")) return number(handle, "energy", millijoules);
    seconds -= (double)amount(handle, "energy_at") / 1e6;
    *millijoules = amount(handle, "energy_then") + (u64)(amount(handle, "power") * seconds);
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *handle, Rates *into) {
    ENTER_DEVICE;
    into->memory = 0;
    return whole(handle, "utilisation", &into->gpu);
}

static int clock_of(void *handle, unsigned type, const char *suffix, unsigned *into) {
    static const char *const names[] = {"graphics", "sm", "memory", "video"};
    char key[64];
    if (type > 3) return BAD_ARGUMENT;
    snprintf(key, sizeof key, "clock_%s%s", names[type], suffix);
    return whole(handle, key, into);
}

int nvmlDeviceGetClockInfo(void *handle, unsigned type, unsigned *into) { ENTER_DEVICE; return clock_of(handle, type, "", into); }
int nvmlDeviceGetMaxClockInfo(void *handle, unsigned type, unsigned *into) { ENTER_DEVICE; return clock_of(handle, type, "_max", into); }

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *into) { ENTER_DEVICE; return number(handle, "throttle", into); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, u64 *into) { ENTER_DEVICE; return number(handle, "throttle", into); }

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *into) {
    ENTER_DEVICE;
    return sensor ? BAD_ARGUMENT : whole(handle, "temperature", into);
}

typedef struct { unsigned version; unsigned sensor; int temperature; } Temperature;

int nvmlDeviceGetTemperatureV(void *handle, Temperature *into) {
    ENTER_DEVICE;
    return whole(handle, "temperature", (unsigned *)&into->temperature);
}

/* --- memory and processes ------------------------------------------------------------------------------------------------ */

/* A zombie holds a pid and nothing else. */
static int lives(unsigned pid) {
    char path[64], line[512], *end;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char *read = fgets(line, sizeof line, file);
    fclose(file);
    end = read ? strrchr(line, ')') : NULL;
    return end && end[1] && end[2] != 'Z' && end[2] != 'X';
}

/* Reads processes/<pid>: lines of device, bytes, and "compute", "graphics" or "mps"; "keep" reports a pid that is not here. */
static unsigned read_process(unsigned pid, int device, const char *kind, Process *into, u64 *sum) {
    char name[32], line[256], bytes[64], words[2][32];
    unsigned found = 0;
    int on;
    snprintf(name, sizeof name, "processes/%u", pid);
    FILE *file = state(name);
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        words[0][0] = words[1][0] = 0;
        if (sscanf(line, "%d %63s %31s %31s", &on, bytes, words[0], words[1]) < 2 || on != device) continue;
        int keep = !strcmp(words[0], "keep") || !strcmp(words[1], "keep");
        const char *its = *words[0] && strcmp(words[0], "keep") ? words[0] : "compute";
        if (!keep && !lives(pid)) continue;
        u64 size = strcmp(bytes, "N/A") ? strtoull(bytes, NULL, 0) : NOT_AVAILABLE;
        if (size != NOT_AVAILABLE) *sum += size;
        if (kind && !strcmp(kind, its) && !found) {
            *into = (Process){pid, size, ~0u, ~0u};
            found = 1;
        }
    }
    fclose(file);
    return found;
}

static unsigned processes(int device, const char *kind, Process *into, u64 *sum) {
    const char *folder = getenv("COTENANT_FAKE_NVML");
    char path[4096];
    unsigned count = 0;
    struct dirent *entry;
    snprintf(path, sizeof path, "%s/processes", folder ? folder : "");
    DIR *all = opendir(path);
    if (!all) return 0;
    while ((entry = readdir(all)) && count < MOST_PROCESSES)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && strspn(entry->d_name, "0123456789") == strlen(entry->d_name))
            count += read_process((unsigned)strtoul(entry->d_name, NULL, 10), device, kind, into + count, sum);
    closedir(all);
    return count;
}

static u64 used(void *handle) {
    Process room[MOST_PROCESSES];
    u64 sum = amount(handle, "memory_idle") + amount(handle, "extra");
    processes(index_of(handle), NULL, room, &sum);
    u64 total = amount(handle, "memory_total");
    return sum < total ? sum : total;
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *into) {
    ENTER_DEVICE;
    int code = number(handle, "memory_total", &into->total);
    if (code != OK) return code;
    into->used = used(handle);
    into->free = into->total - into->used;
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *into) {
    ENTER_DEVICE;
    int code = number(handle, "memory_total", &into->total);
    if (code != OK) return code;
    u64 taken = used(handle), reserved = amount(handle, "memory_reserved");
    into->reserved = reserved < taken ? reserved : taken;
    into->used = taken - into->reserved;
    into->free = into->total - taken;
    return OK;
}

/* "listing": process, na (no figures), none (an empty list), host (pids of another namespace), unsupported. */
static int list(void *handle, const char *kind, unsigned *count, Process *into) {
    Process found[MOST_PROCESSES];
    char listing[32] = "process";
    u64 sum = 0;
    attribute(handle, "listing", listing, sizeof listing);
    if (!strcmp(listing, "unsupported")) return NOT_SUPPORTED;
    unsigned size = strcmp(listing, "none") ? processes(index_of(handle), kind, found, &sum) : 0;
    unsigned room = *count;
    *count = size;
    if (size == 0) return OK;
    if (size > room || !into) return TOO_SMALL;
    for (unsigned at = 0; at < size; at++) {
        into[at] = found[at];
        if (!strcmp(listing, "na")) into[at].bytes = NOT_AVAILABLE;
        if (!strcmp(listing, "host")) into[at].pid += HOST_PIDS;
    }
    return OK;
}

#define LIST(function, kind) \
    int function(void *handle, unsigned *count, Process *into) { ENTER_DEVICE; return list(handle, kind, count, into); }

LIST(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")

/* --- events: lines "<device> <xid>" appended to the file `xids` ------------------------------------------------------------ */

int nvmlDeviceGetSupportedEventTypes(void *handle, u64 *into) {
    ENTER_DEVICE;
    *into = XID;
    return OK;
}

int nvmlEventSetCreate(EventSet **set) {
    ENTER(-1);
    *set = calloc(1, sizeof **set);
    FILE *file = state("xids");
    if (file) {
        fseek(file, 0, SEEK_END);
        (*set)->position = ftell(file);
        fclose(file);
    }
    return OK;
}

int nvmlDeviceRegisterEvents(void *handle, u64 types, EventSet *set) {
    ENTER_DEVICE;
    if (!(types & XID)) return NOT_SUPPORTED;
    set->devices |= 1u << index_of(handle);
    return OK;
}

int nvmlEventSetWait_v2(EventSet *set, Event *into, unsigned milliseconds) {
    char line[64];
    int device, code = TIMEOUT;
    unsigned xid;
    (void)milliseconds;
    ENTER(-1);
    FILE *file = state("xids");
    if (!file) return TIMEOUT;
    fseek(file, set->position, SEEK_SET);
    while (code == TIMEOUT && fgets(line, sizeof line, file)) {
        set->position = ftell(file);
        if (sscanf(line, "%d %u", &device, &xid) != 2 || device >= MOST_DEVICES || !(set->devices & 1u << device)) continue;
        *into = (Event){&handles[device], XID, xid, ~0u, ~0u};
        code = OK;
    }
    fclose(file);
    return code;
}

int nvmlEventSetFree(EventSet *set) { free(set); return OK; }
