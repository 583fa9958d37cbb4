// expect: weights: matrices of float or double: const Eigen::MatrixXf named = integers.cast<float>().
#include <vector>

#include <moe/eigen.hpp>

#ifdef MOE_MISTAKE
auto use(const std::vector<Eigen::MatrixXi>& experts) {
    return moe::SwiGLU{moe::stacked(experts), moe::stacked(experts), moe::stacked(experts)}.d_ff();
}
#else
auto use(const std::vector<Eigen::MatrixXf>& experts) {
    return moe::SwiGLU{moe::stacked(experts), moe::stacked(experts), moe::stacked(experts)}.d_ff();
}
#endif
