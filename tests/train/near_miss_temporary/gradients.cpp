// expect: temporary: give it a name
#include <moe/train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer) { return moe::gradients_of(layer).router(); }
#else
auto use(moe::OwnedGradients<float>& gradients) { return gradients.router(); }
#endif
