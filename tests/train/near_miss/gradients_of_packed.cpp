// expect: gradients_of: packed experts do not say which biases they have
#include <moe/train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer) { return moe::gradients_of(moe::pack(layer)); }
#else
auto use(const Layer& layer) { return moe::gradients_of(layer); }
#endif
