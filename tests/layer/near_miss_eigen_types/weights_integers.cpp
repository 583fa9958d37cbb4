// expect: weights: matrices of float or double: const Eigen::MatrixXf named = integers.cast<float>().
#include <moe/eigen.hpp>

#ifdef MOE_MISTAKE
auto use(const Eigen::MatrixXi& router) { return moe::Router{moe::weights(router), moe::TokenChoice<>{}}.n_experts(); }
#else
auto use(const Eigen::MatrixXf& router) { return moe::Router{moe::weights(router), moe::TokenChoice<>{}}.n_experts(); }
#endif
