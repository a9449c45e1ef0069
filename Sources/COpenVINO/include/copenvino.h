// OpenVINO on the CPU, float32 in and out: as much of its C API as the inference child needs.
// A model is used by one thread at a time. Every failure writes a phrase to `error` (NUL-terminated, cut to `size`).
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    COPENVINO_MOST_DIMENSIONS = 8,
    COPENVINO_MOST_PORTS = 16,
};
/// Elements of one tensor that a caller may pass or that a model may answer: 1 GiB of float32.
#define COPENVINO_MOST_ELEMENTS ((size_t)1 << 28)

typedef struct copenvino_model copenvino_model;

/// A float32 tensor in row-major order. As an output: `elements` is the room at `values` on the way in, what was
/// written on the way out; `rank` and `dimensions` are filled.
typedef struct {
    float *values;
    size_t elements;
    size_t rank;
    int64_t dimensions[COPENVINO_MOST_DIMENSIONS];
} copenvino_tensor;

/// Reads an ONNX or IR file and compiles it for this machine's CPU: float32, one stream, at most `threads` threads.
/// Returns NULL on failure.
copenvino_model *copenvino_model_load(const char *path, int threads, char *error, size_t size);
void copenvino_model_free(copenvino_model *model);

size_t copenvino_model_input_count(const copenvino_model *model);
size_t copenvino_model_output_count(const copenvino_model *model);
/// Name of an input or output; owned by the model; NULL where `index` is out of range.
const char *copenvino_model_input_name(const copenvino_model *model, size_t index);
const char *copenvino_model_output_name(const copenvino_model *model, size_t index);
/// Rank of an input or output, and its dimensions, -1 where dynamic. Returns -1 where `index` is out of range.
int copenvino_model_input_shape(const copenvino_model *model, size_t index, int64_t *dimensions);
int copenvino_model_output_shape(const copenvino_model *model, size_t index, int64_t *dimensions);

/// Runs the model once. `inputs` are in the model's order; `outputs[i]` belongs to output `i`.
/// Fails where a shape does not fit the model or an answer does not fit its room. Returns 0, or -1 on failure.
int copenvino_model_run(
    copenvino_model *model, const copenvino_tensor *inputs, size_t input_count, copenvino_tensor *outputs,
    size_t output_count, char *error, size_t size);

/// Folder that OpenVINO's library was loaded from, as the linker found it. Returns 0, or -1 where it does not fit.
int copenvino_library_folder(char *folder, size_t size);

#ifdef __cplusplus
}
#endif
