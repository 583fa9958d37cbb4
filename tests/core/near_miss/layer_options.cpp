// expect: temporary: give it a name, its elements are read later
#include <moe/layer/parts/layer_options.hpp>
#include <vector>

#ifdef MOE_MISTAKE
const moe::LayerOptions<float> options{.output_bias = std::vector<float>(8)};
#else
const std::vector<float> bias(8);
const moe::LayerOptions<float> options{.output_bias = bias};
#endif
