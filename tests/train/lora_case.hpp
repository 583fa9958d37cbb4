#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "support/kept.hpp"
#include "train/layer_gradients.hpp"

/// Random layers whose routed and shared experts have LoRA adapters, and what the definition says of them: that of the
/// layer whose weights have the adapters merged, from which the gradients of A and B follow by the chain rule.
namespace moe_test {

/// An adapter of one projection in memory of its own; of rank 0 there is none.
template <class T>
struct Adapter {
    std::size_t n_experts = 0;
    std::size_t rank = 0;
    std::size_t outputs = 0;
    std::size_t inputs = 0;
    std::vector<T> a, b, da, db;

    Adapter() = default;
    Adapter(Draw& draw, std::size_t n, std::size_t the_rank, std::size_t out, std::size_t in)
        : n_experts(n),
          rank(the_rank),
          outputs(out),
          inputs(in),
          a(random_elements<T>(draw, n * rank * in, 1 / std::sqrt(static_cast<double>(in)))),
          b(random_elements<T>(draw, n * out * rank, 1)),
          da(a.size()),
          db(b.size()) {}

    [[nodiscard]] moe::LoraPair<T> pair() const {
        if (rank == 0) {
            return {};
        }
        return {moe::stacked(a.data(), n_experts, rank, inputs), moe::stacked(b.data(), n_experts, outputs, rank)};
    }
    [[nodiscard]] moe::LoraPairGradients<T> gradients() {
        if (rank == 0) {
            return {};
        }
        return {moe::stacked_gradients(da.data(), n_experts, rank, inputs),
                moe::stacked_gradients(db.data(), n_experts, outputs, rank)};
    }
    /// weights (outputs, inputs) of expert e += scale B A.
    void merge_into(reference::Vector& weights, std::size_t e, double scale) const {
        for (std::size_t o = 0; o < outputs && rank > 0; ++o) {
            for (std::size_t i = 0; i < inputs; ++i) {
                for (std::size_t j = 0; j < rank; ++j) {
                    weights[o * inputs + i] += scale * at_b(e, o, j) * at_a(e, j, i);
                }
            }
        }
    }
    /// dA += scale B^T dW, dB += scale dW A^T, of all experts one behind the other.
    void chain(const reference::Vector& dw, std::size_t e, double scale, reference::Vector& to_a,
               reference::Vector& to_b) const {
        to_a.resize(a.size());
        to_b.resize(b.size());
        for (std::size_t o = 0; o < outputs && rank > 0; ++o) {
            for (std::size_t i = 0; i < inputs; ++i) {
                for (std::size_t j = 0; j < rank; ++j) {
                    to_a[(e * rank + j) * inputs + i] += scale * at_b(e, o, j) * dw[o * inputs + i];
                    to_b[(e * outputs + o) * rank + j] += scale * dw[o * inputs + i] * at_a(e, j, i);
                }
            }
        }
    }

private:
    [[nodiscard]] double at_a(std::size_t e, std::size_t j, std::size_t i) const {
        return static_cast<double>(a[(e * rank + j) * inputs + i]);
    }
    [[nodiscard]] double at_b(std::size_t e, std::size_t o, std::size_t j) const {
        return static_cast<double>(b[(e * outputs + o) * rank + j]);
    }
};

/// Of one bank.
template <class T>
struct BankAdapters {
    Adapter<T> gate, up, down;
    double scale = 1;

    BankAdapters(Draw& draw, std::size_t n, std::size_t d_model, std::size_t d_ff, bool gated) {
        const auto rank = [&] { return std::vector<std::size_t>{0, 1, 2, 3, 8, 37, 70}[draw.size(0, 6)]; };
        gate = Adapter<T>(draw, n, gated ? rank() : 0, d_ff, d_model);
        up = Adapter<T>(draw, n, rank(), d_ff, d_model);
        down = Adapter<T>(draw, n, rank(), d_model, d_ff);
        const std::size_t most = std::max({gate.rank, up.rank, down.rank, std::size_t{1}});
        scale = (draw.coin() ? 0.5 : -1.25) / static_cast<double>(most);
    }

    [[nodiscard]] moe::LoraAdapters<T> views() const {
        return {.gate = gate.pair(), .up = up.pair(), .down = down.pair(), .scale = scale};
    }
    [[nodiscard]] moe::LoraGradients<T> gradients() {
        return {.gate = gate.gradients(), .up = up.gradients(), .down = down.gradients()};
    }
    void merge_into(reference::Expert& expert, std::size_t e) const {
        gate.merge_into(expert.gate, e, scale);
        up.merge_into(expert.up, e, scale);
        down.merge_into(expert.down, e, scale);
    }
    [[nodiscard]] std::vector<std::vector<T>*> memory() { return {&gate.a, &gate.b, &up.a, &up.b, &down.a, &down.b}; }
    [[nodiscard]] std::vector<std::vector<T>*> all() {
        return {&gate.da, &gate.db, &up.da, &up.db, &down.da, &down.db};
    }
    void compare(GradientError& error, const std::vector<reference::ExpertGradients>& expected) const {
        const auto one = [&](const Adapter<T>& adapter, reference::Vector reference::ExpertGradients::*member) {
            reference::Vector to_a;
            reference::Vector to_b;
            for (std::size_t e = 0; e < expected.size(); ++e) {
                adapter.chain(expected[e].*member, e, scale, to_a, to_b);
            }
            error.compare(adapter.da, to_a);
            error.compare(adapter.db, to_b);
        };
        one(gate, &reference::ExpertGradients::gate);
        one(up, &reference::ExpertGradients::up);
        one(down, &reference::ExpertGradients::down);
    }
};

/// The layer, its adapters, tokens. W is what the base is stored in.
template <class W>
struct LoraCase {
    using T = moe::ComputeType<W>;
    using Bank = moe::ExpertBank<W, moe::AnyForm>;

    Draw draw;
    LayerShape shape;
    ReferenceCase<W> c;
    GateMemory memory;
    RuntimeChoice gate;
    BankAdapters<T> routed;
    std::vector<BankAdapters<T>> always;
    std::size_t n;
    std::vector<T> x, dy;
    std::vector<std::uint8_t> valid;

    explicit LoraCase(std::uint64_t seed, std::size_t max_size = 70)
        : draw(seed),
          shape(random_layer_shape(draw, max_size, 9)),
          c(draw, shape, shape.d_model),
          gate(random_choice(draw, shape.n_choices(), memory)),
          routed(draw, shape.n_experts, shape.d_model, shape.d_ff, shape.form.gated()),
          n(std::vector<std::size_t>{0, 1, 2, 7, 7, 19}[draw.size(0, 5)]),
          x(random_elements<T>(draw, n * d(), 1)),
          dy(random_elements<T>(draw, n * d(), 1)),
          valid(n, 1) {
        for (const std::size_t width : shape.shared_widths) {
            always.emplace_back(draw, 1, shape.d_model, width, shape.form.gated());
        }
        for (std::uint8_t& flag : valid) {
            flag = draw.size(0, 7) == 0 ? 0 : 1;
        }
    }
    LoraCase(const LoraCase&) = delete;
    LoraCase& operator=(const LoraCase&) = delete;

    [[nodiscard]] std::size_t d() const { return shape.d_model; }

    /// Gives every projection of the routed experts an adapter, of ranks 2, 3 and 1.
    void adapt_all() {
        routed.gate = Adapter<T>(draw, shape.n_experts, shape.form.gated() ? 2 : 0, shape.d_ff, d());
        routed.up = Adapter<T>(draw, shape.n_experts, 3, shape.d_ff, d());
        routed.down = Adapter<T>(draw, shape.n_experts, 1, d(), shape.d_ff);
    }

    /// Over views, or where `pack` says so packed.
    template <class Pack>
    [[nodiscard]] auto layer_over(const Pack& pack) const {
        using Base = decltype(pack(c.bank()));
        using Lora = moe::LoraExperts<Base>;
        const moe::SharedExperts<Bank> plain = c.shared();
        std::vector<Lora> shared;
        for (std::size_t s = 0; s < always.size(); ++s) {
            shared.emplace_back(pack(plain.experts()[s]), always[s].views());
        }
        using Shared = moe::SharedExperts<Lora, W>;
        return moe::MoELayer<moe::Router<W, RuntimeChoice>, Lora, Shared>(
            c.router(gate), Lora(pack(c.bank()), routed.views()),
            shared.empty() ? Shared() : Shared(std::move(shared), plain.mode(), plain.gate()), c.options());
    }
    [[nodiscard]] auto layer() const {
        return layer_over([](const Bank& bank) { return bank; });
    }
    template <class F>
    [[nodiscard]] auto packed() const {
        return layer_over([](const Bank& bank) {
            return moe::PackedExperts<F, moe::AnyForm>(bank, moe::SerialExecutor{}, moe::Compute::exact);
        });
    }
    [[nodiscard]] auto base() const { return moe::MoELayer{c.router(gate), c.bank(), c.shared(), c.options()}; }

    /// The definition of the merged layer, the base as format F keeps it.
    template <class F = W>
    [[nodiscard]] reference::Layer definition() const {
        reference::Layer layer = c.definition();
        layer.rule = rule_of(gate);
        const auto merge = [](reference::Expert& expert, const BankAdapters<T>& adapters, std::size_t e) {
            if constexpr (!std::is_same_v<F, W>) {
                const auto keep = [](reference::Vector& weights, std::size_t inputs) {
                    const auto kept = as_kept<F>(std::vector<float>(weights.begin(), weights.end()), inputs);
                    weights.assign(kept.begin(), kept.end());
                };
                keep(expert.gate, expert.d_model);
                keep(expert.up, expert.d_model);
                keep(expert.down, expert.d_ff);
            }
            adapters.merge_into(expert, e);
        };
        for (std::size_t e = 0; e < layer.experts.size(); ++e) {
            merge(layer.experts[e], routed, e);
        }
        for (std::size_t s = 0; s < layer.shared.size(); ++s) {
            merge(layer.shared[s], always[s], 0);
        }
        return layer;
    }

    /// Where all gradients go: those of the adapters to these, those of the base, too, where it is not frozen.
    [[nodiscard]] moe::LayerGradients<T> to(const Gradients<T>& all, bool frozen) {
        moe::LayerGradients<T> to = all.to;
        to.shared.resize(always.size());
        if (frozen) {
            to.experts = {};
            std::fill(to.shared.begin(), to.shared.end(), moe::ExpertGradients<T>{});
        }
        to.experts.lora = routed.gradients();
        for (std::size_t s = 0; s < always.size(); ++s) {
            to.shared[s].lora = always[s].gradients();
        }
        return to;
    }
    /// The gradients of all adapters, which are zero then.
    [[nodiscard]] std::vector<T> take_gradients() {
        std::vector<T> result;
        const auto take = [&](BankAdapters<T>& bank) {
            for (std::vector<T>* part : bank.all()) {
                result.insert(result.end(), part->begin(), part->end());
                std::fill(part->begin(), part->end(), T(0));
            }
        };
        take(routed);
        for (BankAdapters<T>& bank : always) {
            take(bank);
        }
        return result;
    }
};

}  // namespace moe_test
