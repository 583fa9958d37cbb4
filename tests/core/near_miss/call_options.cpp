// expect: temporary: give it a name, its elements are read later
#include <moe/layer/parts/layer_options.hpp>
#include <vector>

#ifdef MOE_MISTAKE
const moe::ForwardOptions<float> options{.valid = std::vector<std::uint8_t>{1, 0}};
#else
const std::vector<std::uint8_t> valid{1, 0};
const moe::ForwardOptions<float> options{.valid = valid};
#endif
