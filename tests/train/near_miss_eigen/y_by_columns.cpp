// expect: forward: y must be row-major memory with a name, a moe::RowMatrix<float> for example.
#include <moe/eigen_train.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, const Eigen::MatrixXf& x, Eigen::MatrixXf& y, moe::Tape<float>& tape,
         moe::Workspace& workspace) {
    moe::forward(layer, x, y, tape, workspace);
}
#else
void use(const Layer& layer, const Eigen::MatrixXf& x, moe::RowMatrix<float>& y, moe::Tape<float>& tape,
         moe::Workspace& workspace) {
    moe::forward(layer, x, y, tape, workspace);
}
#endif
