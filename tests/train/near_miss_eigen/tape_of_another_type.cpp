// expect: Tape: it must be of the type the layer computes in: moe::Tape<float>, or moe::Tape<double>.
#include <moe/eigen_train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer, const Eigen::MatrixXf& x, moe::Tape<double>& tape) {
    return moe::forward(layer, x, tape).rows();
}
#else
auto use(const Layer& layer, const Eigen::MatrixXf& x, moe::Tape<float>& tape) {
    return moe::forward(layer, x, tape).rows();
}
#endif
