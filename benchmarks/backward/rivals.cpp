#include "rivals.hpp"

#include <moe/core/error.hpp>

namespace bench::backward {

std::vector<Rival> available_rivals() {
    std::vector<Rival> result = bench::available_rivals();
    // the dense network is the library's own, and has no experts; nobody trains in what the others round to
    std::erase_if(result, [](Rival rival) { return rival != Rival::eigen && rival != Rival::onednn; });
    return result;
}

std::unique_ptr<Arm> make_rival(Rival rival, const Shape& shape, const Parameters& weights, const Parameters& gradients,
                                const Activations& kept, const Threads& threads) {
    switch (rival) {
#if MOE_BENCH_EIGEN
        case Rival::eigen: return make_eigen_arm(shape, weights, gradients, kept, threads);
#endif
#if MOE_BENCH_ONEDNN
        case Rival::onednn: return make_onednn_arm(shape, weights, gradients, kept, threads);
#endif
        default: break;
    }
    (void)shape, (void)weights, (void)gradients, (void)kept, (void)threads;
    moe::ensure(false, moe::ErrorCode::missing, "no backward pass of the rival ", rival_name(rival));
    return nullptr;
}

}  // namespace bench::backward
