#define _GNU_SOURCE
#include "copenvino.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openvino/c/openvino.h>

typedef struct {
    ov_output_const_port_t *port;
    char *name;
    int rank;
    int64_t dimensions[COPENVINO_MOST_DIMENSIONS];
} port_description;

struct copenvino_model {
    ov_core_t *core;
    ov_compiled_model_t *compiled;
    ov_infer_request_t *request;
    size_t input_count, output_count;
    port_description inputs[COPENVINO_MOST_PORTS], outputs[COPENVINO_MOST_PORTS];
};

static void say(char *error, size_t size, const char *what, const char *detail) {
    if (!error || size == 0) return;
    snprintf(error, size, "%s%s%s", what, detail && *detail ? ": " : "", detail ? detail : "");
    for (char *at = error; *at; at++)
        if (*at == '\n' || *at == '\r') *at = ' ';
}

/// Whether a call failed; says so with OpenVINO's own last message.
static int failed(ov_status_e status, const char *what, char *error, size_t size) {
    if (status == OK) return 0;
    const char *message = ov_get_last_err_msg();
    say(error, size, what, message && *message ? message : ov_get_error_info(status));
    return 1;
}

// MARK: Loading

static int describe_port(port_description *description, char *error, size_t size) {
    char *name = NULL;
    if (failed(ov_port_get_any_name(description->port, &name), "a port has no name", error, size)) return -1;
    description->name = strdup(name ? name : "");
    ov_free(name);
    ov_element_type_e type;
    if (!description->name) return -1;
    if (failed(ov_port_get_element_type(description->port, &type), "a port has no type", error, size)) return -1;
    if (type != F32) {
        say(error, size, "not a float32 port", description->name);
        return -1;
    }
    ov_partial_shape_t shape;
    if (failed(ov_port_get_partial_shape(description->port, &shape), "no shape", error, size)) return -1;
    int result = -1;
    if (!ov_rank_is_dynamic(shape.rank) && shape.rank.max >= 0 && shape.rank.max <= COPENVINO_MOST_DIMENSIONS) {
        description->rank = (int)shape.rank.max;
        for (int i = 0; i < description->rank; i++)
            description->dimensions[i] = ov_dimension_is_dynamic(shape.dims[i]) ? -1 : shape.dims[i].max;
        result = 0;
    } else {
        say(error, size, "unsupported rank", description->name);
    }
    ov_partial_shape_free(&shape);
    return result;
}

static int describe_ports(copenvino_model *model, char *error, size_t size) {
    ov_status_e inputs = ov_compiled_model_inputs_size(model->compiled, &model->input_count);
    ov_status_e outputs = ov_compiled_model_outputs_size(model->compiled, &model->output_count);
    if (failed(inputs, "no inputs", error, size) || failed(outputs, "no outputs", error, size)) return -1;
    if (model->input_count > COPENVINO_MOST_PORTS || model->output_count > COPENVINO_MOST_PORTS) {
        model->input_count = model->output_count = 0;
        say(error, size, "too many inputs or outputs", NULL);
        return -1;
    }
    for (size_t i = 0; i < model->input_count; i++) {
        port_description *input = &model->inputs[i];
        ov_status_e status = ov_compiled_model_input_by_index(model->compiled, i, &input->port);
        if (failed(status, "no input", error, size) || describe_port(input, error, size)) return -1;
    }
    for (size_t i = 0; i < model->output_count; i++) {
        port_description *output = &model->outputs[i];
        ov_status_e status = ov_compiled_model_output_by_index(model->compiled, i, &output->port);
        if (failed(status, "no output", error, size) || describe_port(output, error, size)) return -1;
    }
    return 0;
}

static int compile(copenvino_model *model, const char *path, int threads, char *error, size_t size) {
    if (failed(ov_core_create(&model->core), "cannot start OpenVINO", error, size)) return -1;
    ov_model_t *graph = NULL;
    if (failed(ov_core_read_model(model->core, path, NULL, &graph), "cannot read the model", error, size)) return -1;
    char count[16];
    snprintf(count, sizeof count, "%d", threads < 1 ? 1 : threads);
    // bf16 is slower than float32 on machines without AMX, and the reference numbers are float32.
    ov_status_e status = ov_core_compile_model(
        model->core, graph, "CPU", 10, &model->compiled, ov_property_key_hint_inference_precision, "f32",
        ov_property_key_hint_performance_mode, "LATENCY", ov_property_key_num_streams, "1",
        ov_property_key_inference_num_threads, count, ov_property_key_hint_enable_cpu_pinning, "NO");
    ov_model_free(graph);
    if (failed(status, "cannot compile the model", error, size)) return -1;
    if (describe_ports(model, error, size)) return -1;
    status = ov_compiled_model_create_infer_request(model->compiled, &model->request);
    return failed(status, "cannot create an inference request", error, size) ? -1 : 0;
}

copenvino_model *copenvino_model_load(const char *path, int threads, char *error, size_t size) {
    copenvino_model *model = calloc(1, sizeof *model);
    if (!model) {
        say(error, size, "out of memory", NULL);
        return NULL;
    }
    if (compile(model, path, threads, error, size)) {
        copenvino_model_free(model);
        return NULL;
    }
    return model;
}

static void free_ports(port_description *ports, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ports[i].port) ov_output_const_port_free(ports[i].port);
        free(ports[i].name);
    }
}

void copenvino_model_free(copenvino_model *model) {
    if (!model) return;
    free_ports(model->inputs, model->input_count);
    free_ports(model->outputs, model->output_count);
    if (model->request) ov_infer_request_free(model->request);
    if (model->compiled) ov_compiled_model_free(model->compiled);
    if (model->core) ov_core_free(model->core);
    free(model);
}

// MARK: Ports

size_t copenvino_model_input_count(const copenvino_model *model) { return model->input_count; }
size_t copenvino_model_output_count(const copenvino_model *model) { return model->output_count; }

const char *copenvino_model_input_name(const copenvino_model *model, size_t index) {
    return index < model->input_count ? model->inputs[index].name : NULL;
}

const char *copenvino_model_output_name(const copenvino_model *model, size_t index) {
    return index < model->output_count ? model->outputs[index].name : NULL;
}

static int copy_shape(const port_description *port, int64_t *dimensions) {
    memcpy(dimensions, port->dimensions, (size_t)port->rank * sizeof *dimensions);
    return port->rank;
}

int copenvino_model_input_shape(const copenvino_model *model, size_t index, int64_t *dimensions) {
    return index < model->input_count ? copy_shape(&model->inputs[index], dimensions) : -1;
}

int copenvino_model_output_shape(const copenvino_model *model, size_t index, int64_t *dimensions) {
    return index < model->output_count ? copy_shape(&model->outputs[index], dimensions) : -1;
}

// MARK: Running

/// Whether the tensor's shape fits the port's, and its elements its shape.
static int fits(const port_description *port, const copenvino_tensor *tensor) {
    if (!tensor->values || tensor->rank != (size_t)port->rank) return 0;
    size_t elements = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        int64_t length = tensor->dimensions[i];
        if (length < 1 || (port->dimensions[i] >= 0 && port->dimensions[i] != length)) return 0;
        if ((uint64_t)length > COPENVINO_MOST_ELEMENTS / elements) return 0;
        elements *= (size_t)length;
    }
    return elements == tensor->elements;
}

static int set_input(copenvino_model *model, size_t index, const copenvino_tensor *input, char *error, size_t size) {
    if (!fits(&model->inputs[index], input)) {
        say(error, size, "shape does not fit the model's input", model->inputs[index].name);
        return -1;
    }
    // OpenVINO only reads `dims` here, and only reads an input's values.
    ov_shape_t shape = {.rank = (int64_t)input->rank, .dims = (int64_t *)input->dimensions};
    ov_tensor_t *tensor = NULL;
    if (failed(ov_tensor_create_from_host_ptr(F32, shape, input->values, &tensor), "no tensor", error, size)) return -1;
    ov_status_e status = ov_infer_request_set_input_tensor_by_index(model->request, index, tensor);
    ov_tensor_free(tensor);
    return failed(status, "the model refuses an input", error, size) ? -1 : 0;
}

static int copy_output(ov_tensor_t *tensor, copenvino_tensor *output, char *error, size_t size) {
    ov_element_type_e type;
    size_t elements;
    void *values;
    ov_shape_t shape;
    if (failed(ov_tensor_get_element_type(tensor, &type), "an output's type", error, size)) return -1;
    if (failed(ov_tensor_get_size(tensor, &elements), "an output's size", error, size)) return -1;
    if (failed(ov_tensor_data(tensor, &values), "an output's values", error, size)) return -1;
    if (type != F32 || elements > output->elements) {
        say(error, size, "an output has another type or more elements than expected", NULL);
        return -1;
    }
    if (failed(ov_tensor_get_shape(tensor, &shape), "an output's shape", error, size)) return -1;
    int result = -1;
    if (shape.rank >= 0 && shape.rank <= COPENVINO_MOST_DIMENSIONS) {
        output->rank = (size_t)shape.rank;
        memcpy(output->dimensions, shape.dims, output->rank * sizeof *shape.dims);
        memcpy(output->values, values, elements * sizeof(float));
        output->elements = elements;
        result = 0;
    } else {
        say(error, size, "an output has too many dimensions", NULL);
    }
    ov_shape_free(&shape);
    return result;
}

int copenvino_model_run(
    copenvino_model *model, const copenvino_tensor *inputs, size_t input_count, copenvino_tensor *outputs,
    size_t output_count, char *error, size_t size) {
    if (input_count != model->input_count || output_count != model->output_count) {
        say(error, size, "the model has another number of inputs or outputs", NULL);
        return -1;
    }
    for (size_t i = 0; i < input_count; i++)
        if (set_input(model, i, &inputs[i], error, size)) return -1;
    if (failed(ov_infer_request_infer(model->request), "inference failed", error, size)) return -1;
    for (size_t i = 0; i < output_count; i++) {
        ov_tensor_t *tensor = NULL;
        ov_status_e status = ov_infer_request_get_output_tensor_by_index(model->request, i, &tensor);
        if (failed(status, "no output", error, size)) return -1;
        int result = copy_output(tensor, &outputs[i], error, size);
        ov_tensor_free(tensor);
        if (result) return -1;
    }
    return 0;
}

// MARK: Place

int copenvino_library_folder(char *folder, size_t size) {
    Dl_info where;
    if (!dladdr((const void *)ov_core_create, &where) || !where.dli_fname) return -1;
    const char *end = strrchr(where.dli_fname, '/');
    if (!end || (size_t)(end - where.dli_fname) >= size) return -1;
    memcpy(folder, where.dli_fname, (size_t)(end - where.dli_fname));
    folder[end - where.dli_fname] = 0;
    return 0;
}
