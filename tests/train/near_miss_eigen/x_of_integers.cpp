// expect: forward: x must have the scalar type the layer computes in: x.cast<float>(), or <double>.
#include <moe/eigen_train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer, const Eigen::MatrixXi& x, moe::Tape<float>& tape) {
    return moe::forward(layer, x, tape).rows();
}
#else
auto use(const Layer& layer, const Eigen::MatrixXi& x, moe::Tape<float>& tape) {
    return moe::forward(layer, x.cast<float>(), tape).rows();
}
#endif
