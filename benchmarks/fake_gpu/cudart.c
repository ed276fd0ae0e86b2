/* The few functions of CUDA's runtime that PyTorch calls where tensors are fake: a device that is there and idle. */
#include <stddef.h>
#include <string.h>

struct properties { /* the start of cudaDeviceProp, as CUDA 12 and 13 have it */
    char name[256], ids[32];
    size_t memory, shared;
    int registers, warp;
    size_t pitch;
    int block[4], grid[3];
    size_t constants;
    int major, minor;
};

int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetDeviceProperties(struct properties *found, int device) {
    (void)device;
    memset(found, 0, sizeof *found);
    strcpy(found->name, "fake");
    found->memory = (size_t)80 << 30;
    found->warp = 32;
    found->major = 9;
    return 0;
}
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaSetDevice(int device) { (void)device; return 0; }
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -1; return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { (void)stream; *status = 0; return 0; }
int cudaStreamSynchronize(void *stream) { (void)stream; return 0; }
int cudaDeviceSynchronize(void) { return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaMemGetInfo(size_t *unused, size_t *total) { *unused = *total = (size_t)80 << 30; return 0; }
int cudaGetLastError(void) { return 0; }
int cudaPeekAtLastError(void) { return 0; }
/* By events DDP times its messages. */
int cudaEventCreateWithFlags(void **event, unsigned flags) { (void)flags; *event = event; return 0; }
int cudaEventRecord(void *event, void *stream) { (void)event; (void)stream; return 0; }
int cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) { return (void)flags, cudaEventRecord(event, stream); }
int cudaEventQuery(void *event) { (void)event; return 0; }
int cudaEventDestroy(void *event) { (void)event; return 0; }
