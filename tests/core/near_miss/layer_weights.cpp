// expect: temporary: give it a name, its elements are read later
#include <vector>

#include <moe/model/make_layer.hpp>

#ifdef MOE_MISTAKE
void use(moe::LayerWeights<float>& weights) { weights.selection_bias = std::vector<float>(4); }
#else
void use(moe::LayerWeights<float>& weights, const std::vector<float>& bias) { weights.selection_bias = bias; }
#endif
