// expect: gradients_of: the layer must be a MoELayer, or one under another gate, whose types are known
#include <moe/train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer) { return moe::gradients_of(moe::AnyLayer<float>(layer)); }
#else
auto use(const Layer& layer) { return moe::gradients_of(layer); }
#endif
