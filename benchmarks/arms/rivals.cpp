#include "rivals.hpp"

#include "../reference.hpp"
#include "../weights.hpp"
#include "format_arms.hpp"
#if MOE_BENCH_EIGEN
#include "eigen_arm.hpp"
#endif
#if MOE_BENCH_ONEDNN
#include "onednn_arm.hpp"
#endif

namespace bench {

std::vector<Rival> available_rivals() {
    std::vector<Rival> result;
#if MOE_BENCH_EIGEN
    result.push_back(Rival::eigen);
#endif
#if MOE_BENCH_ONEDNN
    for (const Rival rival : {Rival::onednn, Rival::onednn_bf16, Rival::onednn_int8}) {
        if (onednn_has(rival)) {
            result.push_back(rival);
        }
    }
#endif
    result.push_back(Rival::dense);
    return result;
}

double rival_layer_bytes(Rival rival, const Shape& shape, Format format) {
    if (rival == Rival::dense) {
        return info(format).bytes_per_weight * 3.0 * static_cast<double>(shape.d_model * dense_d_ff(shape));
    }
    const double bytes = rival == Rival::onednn_bf16 ? 2 : rival == Rival::onednn_int8 ? 1 : sizeof(float);
    return bytes * static_cast<double>(shape.weights());
}

std::unique_ptr<Arm> make_rival(Rival rival, const Shape& shape, Format format, Compute compute, std::size_t layers,
                                const Threads& threads) {
    switch (rival) {
#if MOE_BENCH_EIGEN
        case Rival::eigen: return make_eigen_arm(shape, format, layers, threads);
#endif
#if MOE_BENCH_ONEDNN
        case Rival::onednn:
        case Rival::onednn_bf16:
        case Rival::onednn_int8: return make_onednn_arm(rival, shape, format, layers, threads);
#endif
        default: break;
    }
    std::unique_ptr<Arm> dense;
    visit_format(format, [&]<class F>(F) { dense = make_dense_of<F>(shape, compute, layers, threads); });
    return dense;
}

}  // namespace bench
