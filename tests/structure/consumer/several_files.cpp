// A program of several files, of which one compiles what all use: the pattern of moe/instantiate.hpp. The same program
// as main.cpp otherwise, and an architecture and a format known when it runs.
#include <moe/instantiate.hpp>

moe::AnyLayer<float> packed_layer(const moe::MoEConfig& config, const moe::LayerWeights<float>& weights,
                                  moe::Format format);

moe::AnyLayer<float> packed_layer(const moe::MoEConfig& config, const moe::LayerWeights<float>& weights,
                                  moe::Format format) {
    return moe::pack(moe::make_layer(config, weights), format);
}

#include "main.cpp"
