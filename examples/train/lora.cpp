#include "lora.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <utility>

namespace trainer {

namespace {

using moe::Format;

/// A normal A of the variance that PEFT's uniform one has, 1 / (3 inputs).
template <class T>
std::vector<moe::ParameterInfo> describe(const Model<T>& model, const LoraSettings& settings) {
    moe::ensure(settings.rank > 0, moe::ErrorCode::range, "LoRA: the rank is 0, it must be at least 1");
    moe::ensure(std::isfinite(settings.alpha), moe::ErrorCode::range, "LoRA: alpha is ", settings.alpha,
                ", it must be finite");
    std::vector<moe::ParameterInfo> infos;
    const auto add = [&](const moe::Parameter<T>& of) {
        const moe::ParameterInfo& tensor = of.info();
        infos.push_back({.name = tensor.name + ".lora_a",
                         .n_matrices = tensor.n_matrices,
                         .rows = settings.rank,
                         .cols = tensor.cols,
                         .scale = 1 / std::sqrt(3 * static_cast<double>(tensor.cols))});
        infos.push_back({.name = tensor.name + ".lora_b",
                         .n_matrices = tensor.n_matrices,
                         .rows = tensor.rows,
                         .cols = settings.rank});
    };
    for (const Layer<T>& layer : model.layers()) {
        add(layer.gate_up);
        add(layer.down);
        if (settings.router) {
            infos.push_back(layer.router.info());
        }
    }
    return infos;
}

}  // namespace

/// The experts of one layer as they are kept, from which any number of blocks is made.
template <class T>
class FrozenExperts {
public:
    using Router = moe::Router<T, moe::TokenChoice<moe::Softmax>>;

    FrozenExperts() = default;
    FrozenExperts(const FrozenExperts&) = delete;
    FrozenExperts& operator=(const FrozenExperts&) = delete;
    virtual ~FrozenExperts() = default;

    [[nodiscard]] virtual std::unique_ptr<Block<T>> block(const Router& router, const moe::LoraAdapters<T>& adapters,
                                                          const moe::LayerGradients<T>& gradients,
                                                          const moe::BackwardOptions& options) const = 0;
};

namespace {

template <class T, class Bank>
class FrozenBank final : public FrozenExperts<T> {
public:
    using typename FrozenExperts<T>::Router;

    explicit FrozenBank(Bank bank) : bank_(std::move(bank)) {}

    [[nodiscard]] std::unique_ptr<Block<T>> block(const Router& router, const moe::LoraAdapters<T>& adapters,
                                                  const moe::LayerGradients<T>& gradients,
                                                  const moe::BackwardOptions& options) const override {
        using MoE = moe::MoELayer<Router, moe::LoraExperts<Bank>>;
        return std::make_unique<RoutedBlock<T, MoE>>(MoE{router, moe::LoraExperts<Bank>(bank(), adapters)}, gradients,
                                                     options);
    }

private:
    /// Another bank over the same memory.
    [[nodiscard]] Bank bank() const {
        if constexpr (requires { bank_.with_compute(moe::Compute::exact); }) {
            return bank_.with_compute(moe::Compute::exact);
        } else {
            return bank_;
        }
    }

    Bank bank_;
};

template <class T>
std::unique_ptr<FrozenExperts<T>> freeze(const Layer<T>& layer, Format format) {
    const auto& views = layer.moe.experts();
    using Views = std::decay_t<decltype(views)>;
    using Form = typename Views::form_type;
    const auto packed = [&]<class F>(const F*) {
        using Bank = moe::PackedExperts<F, Form>;
        return std::make_unique<FrozenBank<T, Bank>>(Bank(views, moe::SerialExecutor{}, moe::Compute::exact));
    };
    if (format == Format::as_stored) {
        return std::make_unique<FrozenBank<T, Views>>(views);
    }
    if constexpr (std::is_same_v<T, float>) {
        switch (format) {
            case Format::float32: return packed(static_cast<const float*>(nullptr));
            case Format::bfloat16: return packed(static_cast<const moe::bfloat16*>(nullptr));
            case Format::float16: return packed(static_cast<const moe::float16*>(nullptr));
            case Format::int8: return packed(static_cast<const moe::Int8*>(nullptr));
            case Format::int4: return packed(static_cast<const moe::Int4*>(nullptr));
            default: break;
        }
    } else if (format == Format::float64) {
        return packed(static_cast<const double*>(nullptr));
    }
    moe::raise_error(moe::ErrorCode::range, "LoRA: experts in ", sizeof(T) == 4 ? "float" : "double",
                     " cannot be kept as ", moe::format_name(format));
}

template <class T>
void copy_values(const moe::Parameter<T>& from, const moe::Parameter<T>& to) {
    const std::span<const T> values = from.value();
    std::copy(values.begin(), values.end(), to.value().begin());
}

}  // namespace

template <class T>
LoraRouting<T>::LoraRouting(const Model<T>& model, const LoraSettings& settings)
    : settings_(settings), parameters_(describe(model, settings), settings.seed) {
    for (const Layer<T>& layer : model.layers()) {
        const std::string gate_up = layer.gate_up.info().name;
        const std::string down = layer.down.info().name;
        layers_.push_back({.gate_up_a = parameters_[gate_up + ".lora_a"],
                           .gate_up_b = parameters_[gate_up + ".lora_b"],
                           .down_a = parameters_[down + ".lora_a"],
                           .down_b = parameters_[down + ".lora_b"],
                           .router = settings.router ? parameters_[layer.router.info().name] : layer.router,
                           .experts = freeze(layer, settings.base)});
        if (settings.router) {
            copy_values(layer.router, layers_.back().router);
        }
    }
}

template <class T>
LoraRouting<T>::~LoraRouting() = default;

template <class T>
std::unique_ptr<Block<T>> LoraRouting<T>::make_block(const Layer<T>& layer, const Adapted& adapted) const {
    const moe::WeightStack<T> a = adapted.gate_up_a.stack();
    const auto [gate_b, up_b] = moe::concatenated(adapted.gate_up_b.stack());
    const moe::LoraAdapters<T> adapters{.gate = {a, gate_b},
                                        .up = {a, up_b},
                                        .down = {adapted.down_a.stack(), adapted.down_b.stack()},
                                        .scale = scale()};
    const moe::MutableStack<T> d_a = adapted.gate_up_a.gradient_stack();  // one memory: both add to it
    const auto [d_gate_b, d_up_b] = moe::concatenated(adapted.gate_up_b.gradient_stack());
    moe::LayerGradients<T> gradients;
    gradients.experts.lora = {.gate = {d_a, d_gate_b},
                              .up = {d_a, d_up_b},
                              .down = {adapted.down_a.gradient_stack(), adapted.down_b.gradient_stack()}};
    if (settings_.router) {
        gradients.router = adapted.router.gradient_stack();
    }
    return adapted.experts->block({adapted.router.stack(), layer.moe.router().gate()}, adapters, gradients,
                                  {.through_router = settings_.through_router});
}

template <class T>
Blocks<T> LoraRouting<T>::make_blocks(const Model<T>& model) {
    Blocks<T> blocks;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        blocks.push_back(make_block(model.layers()[i], layers_[i]));
    }
    return blocks;
}

template <class T>
void LoraRouting<T>::merge_into(Model<T>& model, const moe::ExecutorRef& threads) const {
    const auto merge = [&](const moe::LoraPair<T>& pair, const moe::Parameter<T>& into) {
        const moe::ParameterInfo& info = into.info();
        moe::merge_lora<T>(pair, scale(),
                           moe::stacked_gradients(into.value().data(), info.n_matrices, info.rows, info.cols), threads);
    };
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const Layer<T>& layer = model.layers()[i];
        merge(gate_up(i), layer.gate_up);
        merge(down(i), layer.down);
        if (settings_.router) {
            copy_values(layers_[i].router, layer.router);
        }
    }
}

template class LoraRouting<float>;
template class LoraRouting<double>;

}  // namespace trainer
