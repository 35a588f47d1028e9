/* Answers like libnvidia-ml.so.1 from the lines of the file that NVML_SCENARIO names.

   driver V | cuda N | init CODE | stall init|memory | crash init|memory
   device NAME, then for it: lost CODE, uuid U, bus B, memory CODE TOTAL RESERVED FREE USED, v2 CODE,
     capability MAJOR MINOR, mig CODE MODE, process PID BYTES (-1: not told)
   slice NAME begins a MIG device of the last device, which takes the same lines. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, MOST = 16 };

typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;
typedef struct Device {
    char name[96], uuid[96], bus[32];
    int lost, memory, v2, mig_code, major, minor;
    unsigned mig;
    unsigned long long total, reserved, available, used;
    int processes, slices;
    Process process[MOST];
    struct Device *slice[MOST];
} Device;

static Device devices[MOST];
static int count, init_code, cuda;
static char driver[80], trouble[32], moment[16];

static Device *begin(Device *made, const char *name) {
    memset(made, 0, sizeof *made);
    snprintf(made->name, sizeof made->name, "%s", name);
    made->mig_code = NOT_SUPPORTED;
    return made;
}

static void happen(const char *now) {
    if (strcmp(moment, now)) return;
    if (!strcmp(trouble, "stall")) for (;;) pause();
    if (!strcmp(trouble, "crash")) raise(SIGSEGV);
}

static void load(void) {
    char line[256], key[32], *rest;
    Device *now = NULL;
    const char *path = getenv("NVML_SCENARIO");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) { init_code = 12; return; }
    count = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%31s", key) != 1) continue;
        rest = line + strlen(key) + (line[strlen(key)] ? 1 : 0);
        if (!strcmp(key, "driver")) snprintf(driver, sizeof driver, "%s", rest);
        else if (!strcmp(key, "cuda")) cuda = atoi(rest);
        else if (!strcmp(key, "init")) init_code = atoi(rest);
        else if (!strcmp(key, "stall") || !strcmp(key, "crash")) {
            snprintf(trouble, sizeof trouble, "%s", key);
            snprintf(moment, sizeof moment, "%.15s", rest);
        }
        else if (!strcmp(key, "device") && count < MOST) now = begin(&devices[count++], rest);
        else if (!strcmp(key, "slice") && count && devices[count - 1].slices < MOST) {
            now = begin(malloc(sizeof *now), rest);
            devices[count - 1].slice[devices[count - 1].slices++] = now;
        }
        else if (!now) continue;
        else if (!strcmp(key, "lost")) now->lost = atoi(rest);
        else if (!strcmp(key, "uuid")) snprintf(now->uuid, sizeof now->uuid, "%.95s", rest);
        else if (!strcmp(key, "bus")) snprintf(now->bus, sizeof now->bus, "%.31s", rest);
        else if (!strcmp(key, "v2")) now->v2 = atoi(rest);
        else if (!strcmp(key, "memory")) sscanf(rest, "%d %llu %llu %llu %llu", &now->memory, &now->total,
                                                &now->reserved, &now->available, &now->used);
        else if (!strcmp(key, "capability")) sscanf(rest, "%d %d", &now->major, &now->minor);
        else if (!strcmp(key, "mig")) sscanf(rest, "%d %u", &now->mig_code, &now->mig);
        else if (!strcmp(key, "process") && now->processes < MOST) {
            long long used = 0;
            sscanf(rest, "%u %lld", &now->process[now->processes].pid, &used);
            now->process[now->processes++].used = (unsigned long long)used;
        }
    }
    fclose(file);
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; load(); happen("init"); return init_code; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the lab"; }

static int text(char *out, unsigned size, const char *value) {
    if (!*value) return NOT_SUPPORTED;
    snprintf(out, size, "%s", value);
    return OK;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text(out, size, driver); }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = cuda; return cuda ? OK : NOT_SUPPORTED; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = (unsigned)count; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    if ((int)index >= count) return INVALID;
    *out = &devices[index];
    return devices[index].lost;
}

int nvmlDeviceGetName(Device *one, char *out, unsigned size) { return text(out, size, one->name); }
int nvmlDeviceGetUUID(Device *one, char *out, unsigned size) { return text(out, size, one->uuid); }

int nvmlDeviceGetPciInfo_v3(Device *one, char *out) {
    if (!*one->bus) return NOT_SUPPORTED;
    memset(out, 0, 68);
    snprintf(out + 36, 32, "%s", one->bus); /* after busIdLegacy[16] and five numbers */
    return OK;
}

int nvmlDeviceGetMemoryInfo(Device *one, unsigned long long *out) {
    happen("memory");
    out[0] = one->total, out[1] = one->available, out[2] = one->used + one->reserved;
    return one->memory;
}

struct memory_v2 { unsigned version; unsigned long long total, reserved, available, used; };

int nvmlDeviceGetMemoryInfo_v2(Device *one, struct memory_v2 *out) {
    if (out->version != (sizeof *out | 2u << 24)) return INVALID; /* a plain 2 is refused */
    happen("memory");
    out->total = one->total, out->reserved = one->reserved;
    out->available = one->available, out->used = one->used;
    return one->v2 ? one->v2 : one->memory;
}

int nvmlDeviceGetCudaComputeCapability(Device *one, int *major, int *minor) {
    *major = one->major, *minor = one->minor;
    return one->major ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetMigMode(Device *one, unsigned *now, unsigned *pending) {
    *now = *pending = one->mig;
    return one->mig_code;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *one, unsigned *out) { (void)one; *out = 7; return OK; }

int nvmlDeviceGetMigDeviceHandleByIndex(Device *one, unsigned index, Device **out) {
    if ((int)index >= one->slices) return NOT_FOUND;
    *out = one->slice[index];
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *one, unsigned *size, Process *out) {
    unsigned room = *size;
    *size = (unsigned)one->processes;
    if (!one->processes) return OK;
    if (!out || room < *size) return INSUFFICIENT_SIZE;
    memcpy(out, one->process, *size * sizeof *out);
    return OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *one, unsigned *size, Process *out) {
    (void)one, (void)out;
    *size = 0;
    return OK;
}
