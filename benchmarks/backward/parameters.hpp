#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../memory.hpp"
#include "../shapes.hpp"
#include "../weights.hpp"

namespace bench::backward {

/// Memory of all weights of a layer, or of all their gradients, in float32 and row-major, as an optimiser updates them:
/// router (n_experts, d_model), then gate and up (n_experts, d_ff, d_model) and down (n_experts, d_model, d_ff), then
/// those of the shared expert. All arms use the same, nothing is packed.
class Parameters {
public:
    explicit Parameters(const Shape& shape) : shape_(shape), memory_(sizeof(float) * count(shape)) {}

    [[nodiscard]] static std::size_t count(const Shape& shape) noexcept {
        return shape.n_experts * shape.d_model + shape.weights();
    }

    /// A matrix of expert `e`, n_experts for the shared one; of the routed experts those that follow lie behind it.
    [[nodiscard]] float* matrix(Matrix which, std::size_t e) const noexcept {
        float* const router = memory_.as<float>().data();
        if (which == Matrix::router) {
            return router;
        }
        const bool shared = e == shape_.n_experts;
        float* const bank = router + shape_.n_experts * (shape_.d_model + (shared ? shape_.expert_weights() : 0));
        const std::size_t size = shape_.d_model * (shared ? shape_.shared_d_ff : shape_.d_ff);
        const std::size_t before = static_cast<std::size_t>(which) * (shared ? 1 : shape_.n_experts);
        return bank + (before + (shared ? 0 : e)) * size;
    }
    [[nodiscard]] std::span<float> all() const noexcept { return memory_.as<float>().first(count(shape_)); }

    /// The random weights that every benchmark has.
    void fill(const Threads& threads) const {
        const auto one = [&](std::size_t group, Matrix which, std::size_t inputs, std::size_t size) {
            float* const first = matrix(which, group == 0 ? 0 : shape_.n_experts);
            fill_stored<float>(threads, WeightStream(0, group, which, inputs), 0, {first, size});
        };
        const std::size_t d = shape_.d_model;
        one(0, Matrix::router, d, shape_.n_experts * d);
        for (const std::size_t group : {0U, 1U}) {
            const std::size_t d_ff = group == 0 ? shape_.d_ff : shape_.shared_d_ff;
            const std::size_t size = (group == 0 ? shape_.n_experts : 1) * d * d_ff;
            if (d_ff > 0) {
                one(group, Matrix::gate, d, size);
                one(group, Matrix::up, d, size);
                one(group, Matrix::down, d_ff, size);
            }
        }
    }

    void clear(const Threads& threads) const {
        constexpr std::size_t grain = std::size_t{1} << 16U;
        threads.split(all().size(), grain, [&](std::size_t begin, std::size_t end) {
            std::ranges::fill(all().subspan(begin, end - begin), 0.0F);
        });
    }

private:
    Shape shape_;
    HugeBuffer memory_;
};

}  // namespace bench::backward
