// expect: backward: dx must be row-major memory with a name, a moe::RowMatrix<float> for example.
#include <moe/eigen_train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, moe::Tape<float>& tape, const Eigen::MatrixXf& dy, Eigen::MatrixXf& dx,
         moe::OwnedGradients<float>& to, moe::Workspace& workspace) {
    moe::backward(layer, tape, dy, dx, to, workspace);
}
#else
void use(const Layer& layer, moe::Tape<float>& tape, const Eigen::MatrixXf& dy, moe::RowMatrix<float>& dx,
         moe::OwnedGradients<float>& to, moe::Workspace& workspace) {
    moe::backward(layer, tape, dy, dx, to, workspace);
}
#endif
