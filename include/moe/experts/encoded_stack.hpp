#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "../formats/block_type.hpp"
#include "../formats/encodings/encoding.hpp"
#include "../kernels/convert.hpp"
#include "weight_stack.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// One expert of a WeightStack as an encoding.
template <WeightElement W>
    requires std::same_as < ComputeType<W>,
float > class ElementMatrix {
public:
    explicit ElementMatrix(WeightStack<W> one) : one_(std::move(one)) {}

    [[nodiscard]] static constexpr std::string_view encoding() noexcept {
        return std::same_as<W, float> ? "float32" : std::same_as<W, bfloat16> ? "bfloat16" : "float16";
    }
    [[nodiscard]] std::size_t outputs() const noexcept { return one_.outputs(); }
    [[nodiscard]] std::size_t inputs() const noexcept { return one_.inputs(); }
    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const WeightBlock<W> row = one_.block(0, output, 1);
        if (row.input_stride == 1) {
            return convert_run(row.data + first, n, values);
        }
        for (std::size_t i = 0; i < n; ++i) {
            values[i] = load_element(row.data + (first + i) * row.input_stride);
        }
    }
    [[nodiscard]] bool overlaps(const ByteView& memory) const { return one_.overlaps(memory); }

private:
    WeightStack<W> one_;
};

}  // namespace detail

/// One matrix an expert, all of one shape and one encoding, which is known when a program runs: what a WeightStack is
/// for weights that are numbers in memory. A view: the weights must outlive it. Copies share a table of the experts.
class EncodedStack {
public:
    /// No matrices: "a plain form has no gate".
    EncodedStack() = default;

    /// One encoded matrix an expert. Throws Error(shape) where there are none, or one has another shape than the first.
    template <WeightEncoding M>
    explicit EncodedStack(std::vector<M> experts) : n_experts_(experts.size()) {
        ensure(!experts.empty(), ErrorCode::shape, "EncodedStack: there are no experts");
        outputs_ = experts.front().outputs();
        inputs_ = experts.front().inputs();
        for (std::size_t e = 0; e < experts.size(); ++e) {
            ensure(experts[e].outputs() == outputs_ && experts[e].inputs() == inputs_, ErrorCode::shape,
                   "EncodedStack: expert ", e, " is ", experts[e].outputs(), " x ", experts[e].inputs(),
                   ", the first is ", outputs_, " x ", inputs_);
        }
        held_ = std::make_shared<const Held<M>>(std::move(experts));
    }

    /// Weights that are no codes: float, bfloat16 or float16 in any storage order.
    template <WeightElement W>
        requires std::same_as < ComputeType<W>,
    float > EncodedStack(const WeightStack<W>& stack) {  // NOLINT: implicit, nothing is lost
        if (!stack.empty()) {
            std::vector<detail::ElementMatrix<W>> experts;
            experts.reserve(stack.n_experts());
            for (std::size_t e = 0; e < stack.n_experts(); ++e) {
                experts.emplace_back(stack.expert(e));
            }
            *this = EncodedStack(std::move(experts));
        }
    }

    [[nodiscard]] bool empty() const noexcept { return n_experts_.get() == 0; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_.get(); }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    /// What the encoding is called, "Q4_K"; empty where there are no matrices.
    [[nodiscard]] std::string_view encoding() const noexcept {
        return empty() ? std::string_view() : held_->encoding(first_expert_);
    }

    /// Inputs [first_input, first_input + n) of outputs [output, output + n_outputs) of expert `e`: (n_outputs, n),
    /// rows `stride` floats apart. Allocates nothing.
    void decode(std::size_t e, std::size_t output, std::size_t n_outputs, std::size_t first_input, std::size_t n,
                float* target, std::size_t stride) const noexcept {
        held_->decode(first_expert_ + e, {first_output_ + output * output_step_, output_step_, n_outputs}, first_input,
                      n, target, stride);
    }
    /// The same of one output.
    void decode(std::size_t e, std::size_t output, std::size_t first_input, std::size_t n,
                float* target) const noexcept {
        decode(e, output, 1, first_input, n, target, n);
    }

    /// The outputs of expert `e` where they lie, if they are rows of blocks (BlockMatrix); else without a type.
    [[nodiscard]] BlockRows blocks(std::size_t e) const noexcept {
        BlockRows rows = held_->blocks(first_expert_ + e);
        rows.first += first_output_ * rows.stride;
        rows.stride *= output_step_;
        return rows;
    }

    /// Every `step`-th output from `first` on, `count` of them, over the same memory. Throws Error(range) when there
    /// are none, a step is 0, or they leave the matrix.
    [[nodiscard]] EncodedStack outputs_slice(std::size_t first, std::size_t step, std::size_t count) const {
        ensure(count > 0 && step > 0, ErrorCode::range, "EncodedStack: ", count, " outputs in steps of ", step,
               "; both must be at least 1");
        ensure(first < outputs_ && count - 1 <= (outputs_ - 1 - first) / step, ErrorCode::range,
               "EncodedStack: ", count, " outputs from ", first, " in steps of ", step, " leave a matrix of ",
               outputs_);
        EncodedStack result = *this;
        result.first_output_ += first * output_step_;
        result.output_step_ *= step;
        result.outputs_ = count;
        return result;
    }

    /// Expert `e` alone.
    [[nodiscard]] EncodedStack expert(std::size_t e) const {
        ensure(e < n_experts_.get(), ErrorCode::range, "EncodedStack: expert ", e, " of ", n_experts_.get());
        EncodedStack result = *this;
        result.first_expert_ += e;
        result.n_experts_ = Emptied<std::size_t>(1);
        return result;
    }

    /// Whether `memory` has bytes in common with the matrices that these outputs are of. O(n_experts).
    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        for (std::size_t e = 0; e < n_experts_.get(); ++e) {
            if (held_->overlaps(first_expert_ + e, memory)) {
                return true;
            }
        }
        return false;
    }

private:
    struct Outputs {
        std::size_t first;
        std::size_t step;
        std::size_t count;
    };
    struct Base {
        Base() = default;
        Base(const Base&) = delete;
        Base& operator=(const Base&) = delete;
        virtual ~Base() = default;
        [[nodiscard]] virtual std::string_view encoding(std::size_t e) const noexcept = 0;
        virtual void decode(std::size_t e, Outputs outputs, std::size_t first, std::size_t n, float* target,
                            std::size_t stride) const noexcept = 0;
        [[nodiscard]] virtual BlockRows blocks(std::size_t e) const noexcept = 0;
        [[nodiscard]] virtual bool overlaps(std::size_t e, const ByteView& memory) const = 0;
    };

    template <class M>
    struct Held final : Base {
        explicit Held(std::vector<M> the_experts) : experts(std::move(the_experts)) {}
        [[nodiscard]] std::string_view encoding(std::size_t e) const noexcept override { return experts[e].encoding(); }
        void decode(std::size_t e, Outputs outputs, std::size_t first, std::size_t n, float* target,
                    std::size_t stride) const noexcept override {
            for (std::size_t o = 0; o < outputs.count; ++o) {
                experts[e].decode(outputs.first + o * outputs.step, first, n, target + o * stride);
            }
        }
        [[nodiscard]] BlockRows blocks([[maybe_unused]] std::size_t e) const noexcept override {
            if constexpr (requires(const M& matrix) {
                              { matrix.rows() } -> std::same_as<BlockRows>;
                          }) {
                return experts[e].rows();
            } else {
                return {};
            }
        }
        [[nodiscard]] bool overlaps(std::size_t e, const ByteView& memory) const override {
            return experts[e].overlaps(memory);
        }

        std::vector<M> experts;
    };

    std::shared_ptr<const Base> held_;
    std::size_t first_expert_ = 0;
    Emptied<std::size_t> n_experts_;
    std::size_t first_output_ = 0;
    std::size_t output_step_ = 1;
    std::size_t outputs_ = 0;
    std::size_t inputs_ = 0;
};

/// The two input projections of a gated expert, each its own stack over the memory of both.
struct EncodedGateUp {
    EncodedStack gate;
    EncodedStack up;
};

/// Gate and up in one matrix of 2 * d_ff outputs: first all of gate, then all of up. Throws Error(shape).
[[nodiscard]] inline EncodedGateUp concatenated(const EncodedStack& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "concatenated: ", stack.outputs(),
           " outputs cannot be a gate half and an up half");
    const std::size_t half = stack.outputs() / 2;
    return {stack.outputs_slice(0, 1, half), stack.outputs_slice(half, 1, half)};
}

/// Gate and up in one matrix of 2 * d_ff outputs: gate in the even ones, up in the odd ones (GPT-OSS).
[[nodiscard]] inline EncodedGateUp interleaved(const EncodedStack& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "interleaved: ", stack.outputs(),
           " outputs cannot be pairs of gate and up");
    const std::size_t half = stack.outputs() / 2;
    return {stack.outputs_slice(0, 2, half), stack.outputs_slice(1, 2, half)};
}

}  // namespace moe::inline MOE_ABI
