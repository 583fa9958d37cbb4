#pragma once

#include <map>
#include <string>
#include <vector>

#include <moe/reference/backward/layer/layer.hpp>

namespace moe_test {

/// One file of golden/blocks as a layer of the definition, with no help of the library's configurations: what it
/// computes, from the weights in the file, and the gradients that the file holds.
struct GoldenLayer {
    std::string file{};
    moe::reference::Layer layer{};
    bool sparse_mixer = false;            // its gate is that one, not the layer's rule
    moe::reference::Vector x{};           // (n_tokens, d_model)
    moe::reference::Vector y{};           // (n_tokens, d_model)
    moe::reference::Vector dy{};          // (n_tokens, d_model)
    std::vector<std::int32_t> experts{};  // (n_tokens, top_k), in any order within a token; empty where not in the file

    /// Every tensor `grad_input` and `grad.<name>` of the file.
    std::map<std::string, moe::reference::Vector> expected{};

    /// The same tensors from the gradients of the definition.
    [[nodiscard]] std::map<std::string, moe::reference::Vector> stored(
        const moe::reference::LayerGradients& gradients) const;
};

/// Names of the files, without their extension.
std::vector<std::string> golden_layer_names();

GoldenLayer golden_layer(const std::string& name);

}  // namespace moe_test
