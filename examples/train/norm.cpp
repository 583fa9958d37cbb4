#include "norm.hpp"

#include <cmath>

namespace trainer {

template <class T>
void rms_norm(const ConstRows<T>& x, std::span<const T> weight, double eps, std::span<T> inverse, Rows<T> y) {
    const Eigen::Index d = x.cols();
    const T* const w = weight.data();
    for (Eigen::Index t = 0; t < x.rows(); ++t) {
        const T* const in = x.data() + t * x.outerStride();
        T* const out = y.data() + t * y.outerStride();
        const T mean = ordered_sum<T>(d, [&](Eigen::Index i) { return in[i] * in[i]; }) / static_cast<T>(d);
        const T r = T(1) / std::sqrt(mean + static_cast<T>(eps));
        inverse[unsigned_size(t)] = r;
        for (Eigen::Index i = 0; i < d; ++i) {
            out[i] = in[i] * r * w[i];
        }
    }
}

template <class T>
void rms_norm_backward(const ConstRows<T>& x, std::span<const T> weight, std::span<const T> inverse,
                       const ConstRows<T>& dy, Rows<T> dx, std::span<T> d_weight) {
    const Eigen::Index d = x.cols();
    const T* const w = weight.data();
    T* const dw = d_weight.data();
    for (Eigen::Index t = 0; t < x.rows(); ++t) {
        const T* const in = x.data() + t * x.outerStride();
        const T* const from = dy.data() + t * dy.outerStride();
        T* const to = dx.data() + t * dx.outerStride();
        const T r = inverse[unsigned_size(t)];
        const T along = ordered_sum<T>(d, [&](Eigen::Index i) { return from[i] * w[i] * in[i]; });
        const T back = along * r * r / static_cast<T>(d);
        for (Eigen::Index i = 0; i < d; ++i) {
            to[i] += r * (from[i] * w[i] - in[i] * back);
        }
        for (Eigen::Index i = 0; i < d; ++i) {
            dw[i] += from[i] * (in[i] * r);
        }
    }
}

#define TRAINER_NORM(T)                                                                                                \
    template void rms_norm<T>(const ConstRows<T>&, std::span<const T>, double, std::span<T>, Rows<T>);                 \
    template void rms_norm_backward<T>(const ConstRows<T>&, std::span<const T>, std::span<const T>,                    \
                                       const ConstRows<T>&, Rows<T>, std::span<T>)
TRAINER_NORM(float);
TRAINER_NORM(double);
#undef TRAINER_NORM

}  // namespace trainer
