#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "backward.hpp"
#include "gate.hpp"

namespace moe::inline MOE_ABI {

/// Any token or batch gate, as a value of one type: for containers, and for gates chosen at run time. Copying copies
/// the gate. Serves float and double; allocates when constructed or copied, never when it chooses. A router takes it
/// like any other gate, and the members mirror the functions of gate.hpp.
class AnyGate {
public:
    template <class G>
        requires(!std::same_as<G, AnyGate> && Gate<G, float> && Gate<G, double>)
    AnyGate(G gate)  // NOLINT: implicit, so that gates can be listed in the braces of a container
        : gate_(std::make_unique<Holder<G>>(std::move(gate))) {}

    AnyGate(const AnyGate& other) : gate_(other.gate_ ? other.gate_->clone() : nullptr) {}
    AnyGate(AnyGate&& other) noexcept = default;
    AnyGate& operator=(const AnyGate& other) { return *this = AnyGate(other); }
    AnyGate& operator=(AnyGate&& other) noexcept = default;
    ~AnyGate() = default;

    [[nodiscard]] bool is_batch_gate() const { return gate().is_batch_gate(); }
    [[nodiscard]] bool needs_logits() const { return gate().needs_logits(); }
    [[nodiscard]] std::size_t n_experts(std::size_t n_logits) const { return gate().n_experts(n_logits); }
    [[nodiscard]] std::size_t max_per_token(std::size_t n_tokens, std::size_t n_experts) const {
        return gate().max_per_token(n_tokens, n_experts);
    }
    [[nodiscard]] std::size_t max_assignments(std::size_t n_tokens, std::size_t n_experts) const {
        return gate().max_assignments(n_tokens, n_experts);
    }
    void validate(std::size_t n_experts) const { gate().validate(n_experts); }
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return gate().overlapped(memory); }

    /// Throws Error(missing) if the gate held is a batch gate.
    template <class T>
    std::size_t select_token(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        return gate().select_token(logits, context, out);
    }

    /// Throws Error(missing) if the gate held is a token gate.
    template <class T>
    void select_batch(MatrixView<const T> logits, BatchSelection<T> out) const {
        gate().select_batch(logits, out);
    }

    [[nodiscard]] GateParameters parameters() const { return gate().parameters(); }

    /// See gate_has_backward, DifferentiableGate. Throws Error(missing) if the gate held has no backward.
    [[nodiscard]] bool has_backward() const { return gate().has_backward(); }
    template <class T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        gate().backward(logits, chosen, d_weights, d_logits);
    }

private:
    struct Base {
        Base() = default;
        Base(const Base&) = default;
        Base& operator=(const Base&) = delete;
        virtual ~Base() = default;
        [[nodiscard]] virtual std::unique_ptr<Base> clone() const = 0;
        [[nodiscard]] virtual bool is_batch_gate() const = 0;
        [[nodiscard]] virtual bool needs_logits() const = 0;
        [[nodiscard]] virtual std::size_t n_experts(std::size_t n_logits) const = 0;
        [[nodiscard]] virtual std::size_t max_per_token(std::size_t n_tokens, std::size_t n_experts) const = 0;
        [[nodiscard]] virtual std::size_t max_assignments(std::size_t n_tokens, std::size_t n_experts) const = 0;
        virtual void validate(std::size_t n_experts) const = 0;
        [[nodiscard]] virtual const char* overlapped(const ByteView& memory) const = 0;
        virtual std::size_t select_token(std::span<const float>, TokenContext, BasicSelection<float>) const = 0;
        virtual std::size_t select_token(std::span<const double>, TokenContext, BasicSelection<double>) const = 0;
        virtual void select_batch(MatrixView<const float>, BatchSelection<float>) const = 0;
        virtual void select_batch(MatrixView<const double>, BatchSelection<double>) const = 0;
        [[nodiscard]] virtual GateParameters parameters() const = 0;
        [[nodiscard]] virtual bool has_backward() const = 0;
        virtual void backward(std::span<const float>, const Chosen<float>&, std::span<const float>,
                              std::span<float>) const = 0;
        virtual void backward(std::span<const double>, const Chosen<double>&, std::span<const double>,
                              std::span<double>) const = 0;
    };

    template <class G>
    struct Holder final : Base {
        explicit Holder(G the_gate) : held(std::move(the_gate)) {}

        [[nodiscard]] std::unique_ptr<Base> clone() const override { return std::make_unique<Holder>(*this); }
        [[nodiscard]] bool is_batch_gate() const override { return moe::is_batch_gate(held); }
        [[nodiscard]] bool needs_logits() const override { return moe::needs_logits(held); }
        [[nodiscard]] std::size_t n_experts(std::size_t n_logits) const override {
            return moe::gate_n_experts(held, n_logits);
        }
        [[nodiscard]] std::size_t max_per_token(std::size_t n_tokens, std::size_t n_experts) const override {
            return moe::gate_max_per_token(held, n_tokens, n_experts);
        }
        [[nodiscard]] std::size_t max_assignments(std::size_t n_tokens, std::size_t n_experts) const override {
            return moe::gate_max_assignments(held, n_tokens, n_experts);
        }
        void validate(std::size_t n_experts) const override { moe::validate_gate(held, n_experts); }
        [[nodiscard]] const char* overlapped(const ByteView& memory) const override {
            return moe::gate_overlapped(held, memory);
        }

        std::size_t select_token(std::span<const float> logits, TokenContext context,
                                 BasicSelection<float> out) const override {
            return choose(logits, context, out);
        }
        std::size_t select_token(std::span<const double> logits, TokenContext context,
                                 BasicSelection<double> out) const override {
            return choose(logits, context, out);
        }
        void select_batch(MatrixView<const float> logits, BatchSelection<float> out) const override {
            choose_all(logits, out);
        }
        void select_batch(MatrixView<const double> logits, BatchSelection<double> out) const override {
            choose_all(logits, out);
        }
        [[nodiscard]] GateParameters parameters() const override { return moe::gate_parameters(held); }
        [[nodiscard]] bool has_backward() const override { return moe::gate_has_backward(held); }
        void backward(std::span<const float> logits, const Chosen<float>& chosen, std::span<const float> d_weights,
                      std::span<float> d_logits) const override {
            differentiate(logits, chosen, d_weights, d_logits);
        }
        void backward(std::span<const double> logits, const Chosen<double>& chosen, std::span<const double> d_weights,
                      std::span<double> d_logits) const override {
            differentiate(logits, chosen, d_weights, d_logits);
        }

        template <class T>
        std::size_t choose(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
            if constexpr (TokenGate<G, T>) {
                return moe::select_token<T>(held, logits, context, out);
            } else {
                raise_error(ErrorCode::missing, "AnyGate: select_token was called, but the gate held is a batch gate");
            }
        }

        template <class T>
        void choose_all(MatrixView<const T> logits, BatchSelection<T> out) const {
            if constexpr (BatchGate<G, T>) {
                moe::select_batch<T>(held, logits, out);
            } else {
                raise_error(ErrorCode::missing, "AnyGate: select_batch was called, but the gate held is a token gate");
            }
        }

        template <class T>
        void differentiate(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                           std::span<T> d_logits) const {
            if constexpr (detail::PassesGradient<G, T>) {
                moe::gate_backward<T>(held, logits, chosen, d_weights, d_logits);
            } else {
                raise_error(ErrorCode::missing,
                            "AnyGate: the gate held has no backward: write `void backward(...) "
                            "const`, or wrap it in moe::Numeric or moe::Detached");
            }
        }

        G held;
    };

    [[nodiscard]] const Base& gate() const {
        ensure(gate_ != nullptr, ErrorCode::missing, "AnyGate: it was moved from and holds no gate");
        return *gate_;
    }

    std::unique_ptr<Base> gate_;
};

template <>
inline constexpr bool erases_gates<AnyGate> = true;

}  // namespace moe::inline MOE_ABI
