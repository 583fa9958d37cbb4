#include "special_routings.hpp"

#include <optional>
#include <string>
#include <utility>

#include <moe/instantiate.hpp>
#include <moe/train.hpp>

namespace compare {

namespace {

using Layer = trainer::Layer<float>;
using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;

std::string parameter_name(std::size_t layer, const char* name) {
    return "model.layers." + std::to_string(layer) + ".mlp." + name;
}

/// One (rows, d_model) in each layer.
std::vector<moe::ParameterInfo> one_each(const trainer::Config& config, const char* name, std::size_t rows) {
    std::vector<moe::ParameterInfo> infos;
    for (std::size_t i = 0; i < trainer::unsigned_size(config.n_layers); ++i) {
        infos.push_back({.name = parameter_name(i, name),
                         .rows = rows,
                         .cols = trainer::unsigned_size(config.d_model),
                         .scale = 0.02});
    }
    return infos;
}

class NoisyRouting final : public TrainedRouting {
public:
    NoisyRouting(const trainer::Config& config, std::uint64_t seed)
        : n_experts_(trainer::unsigned_size(config.n_experts)),
          gate_{.top_k = static_cast<int>(config.top_k)},
          seed_(seed) {}

    [[nodiscard]] std::vector<moe::ParameterInfo> more_parameters(const trainer::Config& config) const override {
        return one_each(config, router, 2 * n_experts_);
    }
    [[nodiscard]] trainer::Blocks<float> blocks(const trainer::Model<float>& model, bool learning) override {
        if (layers_.empty()) {
            for (std::size_t i = 0; i < model.layers().size(); ++i) {
                const moe::Parameter<float>& weights = model.parameters()[parameter_name(i, router)];
                layers_.push_back(
                    std::make_unique<Noisy>(moe::Router{weights.stack(), gate_}, model.layers()[i].moe.experts()));
            }
        }
        trainer::Blocks<float> made;
        for (std::size_t i = 0; i < model.layers().size(); ++i) {
            moe::LayerGradients<float> gradients = model.layers()[i].gradients;
            gradients.router = model.parameters()[parameter_name(i, router)].gradient_stack();
            made.push_back(std::make_unique<GatedBlock<Noisy>>(
                *layers_[i], gradients, [this, i, learning] { return moe::AnyGate(gate(i, learning)); }));
        }
        return made;
    }
    void begin_step(std::uint64_t step) override { step_ = step; }
    void add_losses(const trainer::RoutedBatch<float>& batch, trainer::Step& step) override {
        for (std::size_t i = 0; i < batch.tapes.size(); ++i) {
            const double coefficient = batch.settings.aux;
            step.aux +=
                batch.share * moe::add_importance(*batch.tapes[i], {.coefficient = coefficient, .scale = batch.share},
                                                  batch.workspace);
            step.aux +=
                batch.share * moe::add_load(*batch.tapes[i], gate(i, true),
                                            {.coefficient = coefficient, .scale = batch.share}, batch.workspace);
        }
    }

private:
    using Noisy = moe::MoELayer<moe::Router<float, moe::NoisyTopK>, Bank>;
    static constexpr const char* router = "noisy_gate.weight";

    [[nodiscard]] moe::NoisyTopK gate(std::size_t layer, bool learning) const {
        moe::NoisyTopK gate = gate_;
        gate.training = learning;
        gate.seed = moe::random_stream(seed_, layer);
        gate.step = step_;
        return gate;
    }

    std::size_t n_experts_;
    moe::NoisyTopK gate_;
    std::uint64_t seed_;
    std::uint64_t step_ = 0;
    std::vector<std::unique_ptr<Noisy>> layers_;
};

/// Of one layer, over the means that all its blocks share.
class DefaultBlock final : public ModelBlock {
public:
    DefaultBlock(const Layer& layer, moe::AnyGate gate, moe::MatrixView<float> means, bool learning)
        : ModelBlock(layer.moe, layer.gradients, [gate = std::move(gate)] { return gate; }),
          layer_(&layer),
          defaults_(means),
          learning_(learning) {}

    void forward(moe::MatrixView<const float> x, moe::MatrixView<float> y, const trainer::BlockCall& call) override {
        ModelBlock::forward(x, y, call);
        if (learning_) {
            defaults_.update(layer_->moe, *tape());
        }
        defaults_.add(*tape(), y);
    }
    void backward(moe::MatrixView<const float> dy, moe::MatrixView<float> dx, const trainer::BlockCall& call) override {
        defaults_.add_gradients(*tape(), dy);
        ModelBlock::backward(dy, dx, call);
    }

private:
    const Layer* layer_;
    moe::DefaultVectors<float> defaults_;
    bool learning_;
};

class DefaultRouting final : public TrainedRouting {
public:
    explicit DefaultRouting(const trainer::Config& config)
        : n_experts_(trainer::unsigned_size(config.n_experts)),
          d_model_(trainer::unsigned_size(config.d_model)),
          gate_(moe::TokenChoice<>{.top_k = static_cast<int>(config.top_k)}),
          means_(trainer::unsigned_size(config.n_layers), std::vector<float>(n_experts_ * d_model_)) {}

    [[nodiscard]] trainer::Blocks<float> blocks(const trainer::Model<float>& model, bool learning) override {
        trainer::Blocks<float> made;
        for (std::size_t i = 0; i < model.layers().size(); ++i) {
            made.push_back(std::make_unique<DefaultBlock>(model.layers()[i], gate_,
                                                          moe::view(means_[i].data(), n_experts_, d_model_), learning));
        }
        return made;
    }

private:
    std::size_t n_experts_;
    std::size_t d_model_;
    moe::AnyGate gate_;
    std::vector<std::vector<float>> means_;
};

/// The tokens at one place of all sequences are one call: rows that lie a sequence apart.
class SoftBlock final : public trainer::Block<float> {
public:
    SoftBlock(const Layer& layer, const moe::Parameter<float>& slots) : layer_(&layer), slots_(&slots) {
        gradients_.slots = slots.gradient_stack();
        gradients_.experts = layer.gradients.experts;
    }

    void forward(moe::MatrixView<const float> x, moe::MatrixView<float> y, const trainer::BlockCall& call) override {
        const moe::ParameterInfo& info = slots_->info();
        soft_.emplace(moe::view(std::as_const(*slots_).value().data(), info.rows, info.cols), layer_->moe.experts());
        const std::size_t length = x.rows() / call.n_sequences;
        while (tapes_.size() < length) {
            tapes_.emplace_back();
        }
        for (std::size_t t = 0; t < length; ++t) {
            moe::forward(*soft_, at(x, t, length), at(y, t, length), tapes_[t], call.workspace, call.threads,
                         {.accumulate = true});
        }
    }
    void backward(moe::MatrixView<const float> dy, moe::MatrixView<float> dx, const trainer::BlockCall& call) override {
        const std::size_t length = dy.rows() / call.n_sequences;
        for (std::size_t t = 0; t < length; ++t) {
            moe::backward(*soft_, tapes_[t], at(dy, t, length), at(dx, t, length), gradients_, call.workspace,
                          call.threads);
        }
    }

private:
    template <class T>
    [[nodiscard]] static moe::MatrixView<T> at(moe::MatrixView<T> rows, std::size_t t, std::size_t length) {
        return {rows.row(t), rows.rows() / length, rows.cols(), length * rows.stride()};
    }

    const Layer* layer_;
    const moe::Parameter<float>* slots_;
    moe::SoftGradients<float> gradients_;
    std::optional<moe::SoftMoELayer<float, Bank>> soft_;
    std::vector<moe::SoftTape<float>> tapes_;
};

class SoftRouting final : public TrainedRouting {
public:
    SoftRouting(const trainer::Config& config, std::size_t batch)
        : top_k_(static_cast<double>(config.top_k)),
          n_slots_(batch * trainer::unsigned_size(config.top_k) / trainer::unsigned_size(config.n_experts) *
                   trainer::unsigned_size(config.n_experts)) {
        moe::ensure(n_slots_ == batch * trainer::unsigned_size(config.top_k), moe::ErrorCode::range,
                    "soft-moe: ", config.n_experts, " experts cannot share ", batch, " tokens x ", config.top_k,
                    " evenly");
    }

    [[nodiscard]] std::vector<moe::ParameterInfo> more_parameters(const trainer::Config& config) const override {
        return one_each(config, slots, n_slots_);
    }
    [[nodiscard]] trainer::Blocks<float> blocks(const trainer::Model<float>& model, bool /*learning*/) override {
        trainer::Blocks<float> made;
        for (std::size_t i = 0; i < model.layers().size(); ++i) {
            made.push_back(
                std::make_unique<SoftBlock>(model.layers()[i], model.parameters()[parameter_name(i, slots)]));
        }
        return made;
    }
    [[nodiscard]] double rows_per_token() const override { return top_k_; }

private:
    static constexpr const char* slots = "slots";

    double top_k_;
    std::size_t n_slots_;
};

}  // namespace

std::unique_ptr<TrainedRouting> make_noisy_routing(const trainer::Config& config, std::uint64_t seed) {
    return std::make_unique<NoisyRouting>(config, seed);
}

std::unique_ptr<TrainedRouting> make_default_routing(const trainer::Config& config) {
    return std::make_unique<DefaultRouting>(config);
}

std::unique_ptr<TrainedRouting> make_soft_routing(const trainer::Config& config, std::size_t batch) {
    return std::make_unique<SoftRouting>(config, batch);
}

}  // namespace compare
