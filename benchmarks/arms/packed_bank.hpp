#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <moe/experts/packed_experts.hpp>

#include "../memory.hpp"
#include "../weights.hpp"

namespace bench {

/// Which experts: `group` as in WeightStream.
struct BankSizes {
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    std::size_t group;
};

/// Random SwiGLU experts packed in format F. They are made one expert at a time, so that the floats they come from
/// never take more than an expert's memory beside what is packed: of the largest models no more would fit.
template <class F>
class PackedBank {
public:
    using Form = moe::Gated<moe::Silu>;
    using Experts = moe::PackedExperts<F, Form>;

    PackedBank(const BankSizes& sizes, moe::Compute compute, const Threads& threads)
        : layout_(moe::PanelLayout<float>{sizes.d_model, sizes.d_ff, true}, sizes.n_experts),
          compute_(compute),
          memory_(layout_.bytes()) {
        const std::size_t size = sizes.d_model * sizes.d_ff;
        HugeBuffer source(3 * size * sizeof(Source));
        // a bank of one is packed where it stays: the largest dense networks have no room for a second copy
        HugeBuffer packed(sizes.n_experts > 1 ? one_expert().bytes() : 0);
        for (std::size_t e = 0; e < sizes.n_experts; ++e) {
            Source* target = source.template as<Source>().data();
            const auto stack = [&](Matrix matrix, std::size_t outputs, std::size_t inputs) {
                fill_stored<Source>(threads, WeightStream(0, sizes.group, matrix, inputs), e * size, {target, size});
                target += size;
                return moe::stacked<Source>(target - size, 1, outputs, inputs);
            };
            const auto gate = stack(Matrix::gate, sizes.d_ff, sizes.d_model);
            const auto up = stack(Matrix::up, sizes.d_ff, sizes.d_model);
            const auto down = stack(Matrix::down, sizes.d_model, sizes.d_ff);
            const moe::SwiGLU<Source> expert{gate, up, down};
            if (sizes.n_experts == 1) {
                (void)Experts(expert, memory_.as<std::byte>(), threads);
            } else {
                put(e, Experts(expert, packed.as<std::byte>(), threads), threads);
            }
        }
    }

    /// The same experts in other memory. What is timed depends on where weights are and not on their values, and so
    /// layers in rotation may be equal.
    [[nodiscard]] PackedBank copy(const Threads& threads) const {
        PackedBank result(layout_, compute_);
        copy_bytes(threads, memory_.as<std::byte>(), result.memory_.template as<std::byte>().data());
        return result;
    }

    /// As the library sees them; must not outlive this object.
    [[nodiscard]] Experts experts() const { return {Form{}, layout_, memory_.as<std::byte>(), compute_}; }

private:
    /// Of the weights that are packed: quantised formats come from floats.
    using Source = std::conditional_t<moe::WeightElement<F>, F, float>;

    PackedBank(const moe::PackedLayout<F>& layout, moe::Compute compute)
        : layout_(layout), compute_(compute), memory_(layout.bytes()) {}

    [[nodiscard]] moe::PackedLayout<F> one_expert() const { return {layout_.panels(), 1}; }

    void put(std::size_t e, const Experts& expert, const Threads& threads) {
        std::byte* const target = memory_.as<std::byte>().data();
        const std::size_t weights = one_expert().hidden_bias(0, 0);
        copy_bytes(threads, expert.data().first(weights), target + layout_.hidden_panel(e, 0));
        copy_bytes(threads, expert.data().subspan(weights), target + layout_.hidden_bias(e, 0));
    }

    static void copy_bytes(const Threads& threads, std::span<const std::byte> from, std::byte* to) {
        constexpr std::size_t grain = std::size_t{1} << 16U;
        threads.split(from.size(), grain, [&](std::size_t begin, std::size_t end) {
            std::memcpy(to + begin, from.data() + begin, end - begin);
        });
    }

    moe::PackedLayout<F> layout_;
    moe::Compute compute_;
    HugeBuffer memory_;
};

}  // namespace bench
