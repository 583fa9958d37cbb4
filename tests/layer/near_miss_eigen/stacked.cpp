// expect: temporary: give the list a name
#include <moe/eigen.hpp>
#include <vector>

std::vector<Eigen::MatrixXf> make();

#ifdef MOE_MISTAKE
auto use() { return moe::stacked(make()).outputs(); }
#else
auto use() {
    const std::vector<Eigen::MatrixXf> experts = make();
    return moe::stacked(experts).outputs();
}
#endif
