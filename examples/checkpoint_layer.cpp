// A published model, a folder of Hugging Face or a GGUF file: what is in it, and one of its layers run and packed.
//   checkpoint_layer [<folder or .gguf> [<layer>]]

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : MOE_MODEL_FOLDER;
    const std::size_t number = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 0;

    // [readme]
    const auto checkpoint = moe::Checkpoint::open(path);          // "Qwen3-30B-A3B", "gpt-oss-20b-mxfp4.gguf"
    const moe::AnyLayer<float> layer = checkpoint.layer(number);  // over the memory of the files
    const moe::AnyLayer<float> packed = checkpoint.pack(number);  // or packed as it is stored, for speed
    // [/readme]

    std::printf("%s: %zu layers\n", checkpoint.architecture().c_str(), checkpoint.n_layers());
    const moe::MoEConfig config = checkpoint.config(number);
    std::printf("layer %zu: %zu experts, %d a token, d_model %zu, d_ff %zu, shared expert %zu, %zu tensors\n", number,
                config.n_experts, config.routing.top_k, config.d_model, config.d_ff, config.shared_d_ff,
                checkpoint.tensors(number).size());

    const std::size_t n_tokens = 8;
    std::vector<float> x(n_tokens * layer.d_model());
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = 2 * moe::random_uniform(1, i) - 1;
    }
    std::vector<float> y(x.size());
    std::vector<float> y_packed(x.size());
    moe::Workspace workspace;
    const auto rows = moe::view(x.data(), n_tokens, layer.d_model());
    layer.forward(rows, moe::view(y.data(), n_tokens, layer.d_model()), workspace);
    packed.forward(rows, moe::view(y_packed.data(), n_tokens, layer.d_model()), workspace);
    double difference = 0;
    double size = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        difference += std::pow(static_cast<double>(y_packed[i]) - static_cast<double>(y[i]), 2);
        size += std::pow(static_cast<double>(y[i]), 2);
    }
    const bool ok = size > 0 && difference <= 1e-3 * size;  // false for NaN too
    std::printf("packed, squared error %.1e of the squared outputs: %s\n", difference / size, ok ? "ok" : "WRONG");
    return ok ? 0 : 1;
}
