// expect: backward: dy must have the scalar type the layer computes in: dy.cast<float>(), or <double>.
#include <moe/eigen_train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer, moe::Tape<float>& tape, const Eigen::MatrixXd& dy, moe::OwnedGradients<float>& to) {
    return moe::backward(layer, tape, dy, to).rows();
}
#else
auto use(const Layer& layer, moe::Tape<float>& tape, const Eigen::MatrixXd& dy, moe::OwnedGradients<float>& to) {
    return moe::backward(layer, tape, dy.cast<float>(), to).rows();
}
#endif
