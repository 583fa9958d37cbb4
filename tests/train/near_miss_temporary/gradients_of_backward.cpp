// expect: temporary: give it a name
#include <moe/train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

void use(const Layer& layer, moe::Tape<float>& tape, moe::MatrixView<const float> dy, moe::MatrixView<float> dx,
         moe::Workspace& workspace) {
#ifdef MOE_MISTAKE
    moe::backward(layer, tape, dy, dx, moe::gradients_of(layer), workspace);
#else
    moe::OwnedGradients gradients = moe::gradients_of(layer);
    moe::backward(layer, tape, dy, dx, gradients, workspace);
#endif
}
