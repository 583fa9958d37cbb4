#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gradients.hpp"

namespace moe::inline MOE_ABI {

/// The ranks of LoRA adapters; 0: there is none.
struct LoraRanks {
    std::size_t gate = 0;
    std::size_t up = 0;
    std::size_t down = 0;
};

/// The sizes of a bank of experts, and which biases it has.
struct BankShape {
    std::size_t n_experts = 0;
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    bool gated = false;
    bool gate_bias = false;
    bool up_bias = false;
    bool down_bias = false;
    bool frozen = false;  ///< only its adapters are trained
    LoraRanks lora{};
};

/// The sizes of all parameters of a layer; 0 or false: there are none.
struct ParameterShapes {
    std::size_t d_model = 0;
    std::size_t n_logits = 0;
    std::size_t d_router = 0;
    bool router_bias = false;
    BankShape experts{};
    std::vector<BankShape> shared{};
    bool shared_gate = false;
    bool output_bias = false;
    std::size_t n_constants = 0;
    std::size_t n_mixes = 0;  ///< rows: two a constant expert
};

/// One kind of parameters of a layer, with a name for people.
struct ParameterGroup {
    std::string name;           ///< "router", "experts.up", "shared[0].down_bias"
    std::size_t first = 0;      ///< of its values in OwnedGradients::all()
    std::size_t n_experts = 0;  ///< 0 where there is not one matrix or vector an expert, but one
    std::size_t rows = 0;
    std::size_t cols = 0;  ///< 0 of vectors

    [[nodiscard]] std::size_t size() const { return (n_experts + (n_experts == 0)) * rows * (cols + (cols == 0)); }

    /// Value `i` of the group by name: "experts.down[3](5, 2)", "router_bias(1)".
    [[nodiscard]] std::string at(std::size_t i) const {
        const std::size_t width = cols + (cols == 0);
        const std::size_t row = i / width;
        std::string text = name;  // piece by piece: g++ 12 sees overlaps in "[" + std::string (its bug 105329)
        if (n_experts > 0) {
            text.append("[").append(std::to_string(row / rows)).append("]");
        }
        text.append("(").append(std::to_string(row % rows));
        if (cols > 0) {
            text.append(", ").append(std::to_string(i % width));
        }
        return text.append(")");
    }
};

/// Views of the gradients of one bank of experts; of what it lacks they are empty. Throws Error(range) for an expert
/// that is none.
template <class T>
class ExpertGradientViews {
public:
    explicit ExpertGradientViews(const ExpertGradients<T>& of) : of_(of) {}

    [[nodiscard]] MatrixView<T> gate(std::size_t e = 0) const { return matrix(of_.gate, e); }  ///< (d_ff, d_model)
    [[nodiscard]] MatrixView<T> up(std::size_t e = 0) const { return matrix(of_.up, e); }      ///< (d_ff, d_model)
    [[nodiscard]] MatrixView<T> down(std::size_t e = 0) const { return matrix(of_.down, e); }  ///< (d_model, d_ff)
    [[nodiscard]] std::span<T> gate_bias(std::size_t e = 0) const { return vector(of_.gate_bias, e); }  ///< (d_ff)
    [[nodiscard]] std::span<T> up_bias(std::size_t e = 0) const { return vector(of_.up_bias, e); }      ///< (d_ff)
    [[nodiscard]] std::span<T> down_bias(std::size_t e = 0) const { return vector(of_.down_bias, e); }  ///< (d_model)

private:
    [[nodiscard]] MatrixView<T> matrix(const MutableStack<T>& stack, std::size_t e) const {
        ensure(e < of_.up.n_experts(), ErrorCode::range, "gradients: expert ", e, " of ", of_.up.n_experts());
        return stack.empty() ? MatrixView<T>() : view(stack.matrix(e).data, stack.outputs(), stack.inputs());
    }
    [[nodiscard]] std::span<T> vector(const MutableStack<T>& stack, std::size_t e) const {
        const MatrixView<T> column = matrix(stack, e);
        return {column.data(), column.rows()};
    }

    ExpertGradients<T> of_;  // views, row-major and contiguous
};

/// Memory for the gradients of all parameters of a layer, in one piece; made by gradients_of(layer), zero at first. It
/// is where backward() adds gradients: give it as such.
template <class T>
class OwnedGradients {
public:
    using value_type = T;

    /// Of no layer.
    OwnedGradients() = default;

    /// Throws Error(overflow), std::bad_alloc.
    explicit OwnedGradients(ParameterShapes shapes) : shapes_(std::move(shapes)) {
        std::size_t size = 0;
        visit([&](ParameterGroup group, auto&) {
            group.first = size;
            size = checked_add(size, group.size());
            groups_.push_back(std::move(group));
        });
        memory_.assign(size, T(0));
        bind();
    }
    OwnedGradients(const OwnedGradients& other)
        : shapes_(other.shapes_), groups_(other.groups_), memory_(other.memory_) {
        bind();
    }
    OwnedGradients(OwnedGradients&& other) noexcept { swap(other); }
    OwnedGradients& operator=(OwnedGradients other) noexcept {
        swap(other);
        return *this;
    }

    /// All gradients = 0.
    void zero() { std::fill(memory_.begin(), memory_.end(), T(0)); }

    /// All of them, group by group, as they lie in memory.
    [[nodiscard]] std::span<T> all() & noexcept { return memory_; }
    [[nodiscard]] std::span<const T> all() const& noexcept { return memory_; }
    std::span<T> all() && = delete;  // temporary: give it a name, this is a view of it
    /// What stands where in all().
    [[nodiscard]] const std::vector<ParameterGroup>& groups() const& noexcept { return groups_; }
    const std::vector<ParameterGroup>& groups() const&& = delete;  // temporary: give it a name, this is a part of it

    /// As backward() takes them. A copy of it can leave out what is not wanted.
    [[nodiscard]] const LayerGradients<T>& views() & noexcept { return views_; }
    const LayerGradients<T>& views() && = delete;  // temporary: give it a name, these are views of it
    operator const LayerGradients<T>&() & noexcept { return views_; }  // NOLINT: implicit, to be given to backward()
    operator const LayerGradients<T>&() && = delete;                   // temporary: give it a name

    // By name; empty where the layer has none. Throw Error(range) for an expert that is none.

    [[nodiscard]] MatrixView<T> router() & { return matrix(views_.router); }                  ///< (n_logits, d_router)
    [[nodiscard]] std::span<T> router_bias() & { return views_.router_bias; }                 ///< (n_logits)
    [[nodiscard]] MatrixView<T> gate(std::size_t e) & { return experts().gate(e); }           ///< (d_ff, d_model)
    [[nodiscard]] MatrixView<T> up(std::size_t e) & { return experts().up(e); }               ///< (d_ff, d_model)
    [[nodiscard]] MatrixView<T> down(std::size_t e) & { return experts().down(e); }           ///< (d_model, d_ff)
    [[nodiscard]] std::span<T> gate_bias(std::size_t e) & { return experts().gate_bias(e); }  ///< (d_ff)
    [[nodiscard]] std::span<T> up_bias(std::size_t e) & { return experts().up_bias(e); }      ///< (d_ff)
    [[nodiscard]] std::span<T> down_bias(std::size_t e) & { return experts().down_bias(e); }  ///< (d_model)
    /// Of shared expert `s`: shared(0).down() and so on.
    [[nodiscard]] ExpertGradientViews<T> shared(std::size_t s) & {
        ensure(s < views_.shared.size(), ErrorCode::range, "gradients: shared expert ", s, " of ",
               views_.shared.size());
        return ExpertGradientViews<T>(views_.shared[s]);
    }
    [[nodiscard]] MatrixView<T> shared_gate() & { return matrix(views_.shared_gate); }  ///< (n_shared, d_model)
    [[nodiscard]] std::span<T> output_bias() & { return views_.output_bias; }           ///< (d_model)
    [[nodiscard]] MatrixView<T> constants() & { return views_.constants; }              ///< (n_constant, d_model)
    [[nodiscard]] MatrixView<T> mixes() & { return views_.mixes; }                      ///< (2 n_constant, d_model)

    // All of these are views of it, so it must have a name.
    MatrixView<T> router() && = delete;                      // temporary: give it a name
    std::span<T> router_bias() && = delete;                  // temporary: give it a name
    MatrixView<T> gate(std::size_t) && = delete;             // temporary: give it a name
    MatrixView<T> up(std::size_t) && = delete;               // temporary: give it a name
    MatrixView<T> down(std::size_t) && = delete;             // temporary: give it a name
    std::span<T> gate_bias(std::size_t) && = delete;         // temporary: give it a name
    std::span<T> up_bias(std::size_t) && = delete;           // temporary: give it a name
    std::span<T> down_bias(std::size_t) && = delete;         // temporary: give it a name
    ExpertGradientViews<T> shared(std::size_t) && = delete;  // temporary: give it a name
    MatrixView<T> shared_gate() && = delete;                 // temporary: give it a name
    std::span<T> output_bias() && = delete;                  // temporary: give it a name
    MatrixView<T> constants() && = delete;                   // temporary: give it a name
    MatrixView<T> mixes() && = delete;                       // temporary: give it a name

private:
    [[nodiscard]] ExpertGradientViews<T> experts() const { return ExpertGradientViews<T>(views_.experts); }
    [[nodiscard]] static MatrixView<T> matrix(const MutableStack<T>& stack) {
        return stack.empty() ? MatrixView<T>() : view(stack.matrix(0).data, stack.outputs(), stack.inputs());
    }

    void swap(OwnedGradients& other) noexcept {
        std::swap(shapes_, other.shapes_);
        std::swap(groups_, other.groups_);
        std::swap(memory_, other.memory_);
        std::swap(views_, other.views_);
    }

    /// Calls use(group, the view of it) for each group that there is, in the order of the memory.
    template <class Use>
    void visit(const Use& use);
    template <class Use>
    static void visit_bank(const std::string& name, const BankShape& shape, ExpertGradients<T>& to, const Use& use);

    /// Lets the views point to the memory.
    void bind() {
        std::size_t i = 0;
        visit([&](const ParameterGroup&, auto& to) {
            const ParameterGroup& group = groups_[i++];
            bind(to, memory_.data() + group.first, group);
        });
    }
    static void bind(MutableStack<T>& to, T* data, const ParameterGroup& group) {
        to = stacked_gradients(data, group.n_experts + (group.n_experts == 0), group.rows,
                               group.cols + (group.cols == 0));
    }
    static void bind(MatrixView<T>& to, T* data, const ParameterGroup& group) {
        to = view(data, group.rows, group.cols);
    }
    static void bind(std::span<T>& to, T* data, const ParameterGroup& group) { to = {data, group.rows}; }

    ParameterShapes shapes_;
    std::vector<ParameterGroup> groups_;
    std::vector<T> memory_;
    LayerGradients<T> views_;
};

template <class T>
template <class Use>
void OwnedGradients<T>::visit_bank(const std::string& name, const BankShape& shape, ExpertGradients<T>& to,
                                   const Use& use) {
    const auto add = [&](bool there, const char* part, std::size_t rows, std::size_t cols, MutableStack<T>& stack) {
        if (there) {
            use(ParameterGroup{name + part, 0, shape.n_experts, rows, cols}, stack);
        }
    };
    const bool trained = !shape.frozen;
    add(trained && shape.gated, ".gate", shape.d_ff, shape.d_model, to.gate);
    add(trained, ".up", shape.d_ff, shape.d_model, to.up);
    add(trained, ".down", shape.d_model, shape.d_ff, to.down);
    add(trained && shape.gate_bias, ".gate_bias", shape.d_ff, 0, to.gate_bias);
    add(trained && shape.up_bias, ".up_bias", shape.d_ff, 0, to.up_bias);
    add(trained && shape.down_bias, ".down_bias", shape.d_model, 0, to.down_bias);
    const LoraRanks& ranks = shape.lora;
    add(ranks.gate > 0, ".gate.lora_a", ranks.gate, shape.d_model, to.lora.gate.a);
    add(ranks.gate > 0, ".gate.lora_b", shape.d_ff, ranks.gate, to.lora.gate.b);
    add(ranks.up > 0, ".up.lora_a", ranks.up, shape.d_model, to.lora.up.a);
    add(ranks.up > 0, ".up.lora_b", shape.d_ff, ranks.up, to.lora.up.b);
    add(ranks.down > 0, ".down.lora_a", ranks.down, shape.d_ff, to.lora.down.a);
    add(ranks.down > 0, ".down.lora_b", shape.d_model, ranks.down, to.lora.down.b);
}

template <class T>
template <class Use>
void OwnedGradients<T>::visit(const Use& use) {
    const auto add = [&](const char* name, std::size_t rows, std::size_t cols, auto& to) {
        if (rows > 0) {
            use(ParameterGroup{name, 0, 0, rows, cols}, to);
        }
    };
    const ParameterShapes& shapes = shapes_;
    add("router", shapes.n_logits, shapes.d_router, views_.router);
    add("router_bias", shapes.router_bias ? shapes.n_logits : 0, 0, views_.router_bias);
    visit_bank("experts", shapes.experts, views_.experts, use);
    views_.shared.resize(shapes.shared.size());
    for (std::size_t s = 0; s < shapes.shared.size(); ++s) {
        BankShape one = shapes.shared[s];
        one.n_experts = 0;  // its name needs no number but its own
        visit_bank(std::string("shared[").append(std::to_string(s)).append("]"), one, views_.shared[s], use);
    }
    add("shared_gate", shapes.shared_gate ? shapes.shared.size() : 0, shapes.d_model, views_.shared_gate);
    add("output_bias", shapes.output_bias ? shapes.d_model : 0, 0, views_.output_bias);
    add("constants", shapes.n_constants, shapes.d_model, views_.constants);
    add("mixes", shapes.n_mixes, shapes.d_model, views_.mixes);
}

}  // namespace moe::inline MOE_ABI
