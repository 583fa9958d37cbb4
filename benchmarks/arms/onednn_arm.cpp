#include "onednn_arm.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <moe/core/workspace.hpp>

#include "../memory.hpp"
#include "../probes/clock.hpp"
#include "expert_list.hpp"
#include "onednn_precision.hpp"
#include "onednn_products.hpp"

namespace bench {

namespace {

/// The two products of experts of one width.
struct Products {
    InnerProduct hidden;  ///< gate and up together
    InnerProduct output;

    Products(const dnnl::engine& engine, std::size_t d_model, std::size_t d_ff, InnerProduct::Type type)
        : hidden(engine, d_model, 2 * d_ff, type), output(engine, d_ff, d_model, type) {}

    [[nodiscard]] std::size_t packed_bytes() const {
        return moe::round_up(hidden.weights().get_size(), 64) + moe::round_up(output.weights().get_size(), 64);
    }
};

/// What one thread needs while it computes an expert.
template <class Precision>
struct Scratch {
    std::vector<typename Precision::Value> x;
    std::vector<float> scales;  ///< of the rows of x
    std::vector<typename Precision::Sum> sums;
    moe::AlignedBuffer memory;
};

template <class Precision>
class OneDnnArm final : public Arm {
    using Value = typename Precision::Value;
    using Sum = typename Precision::Sum;
    using ThreadScratch = Scratch<Precision>;

public:
    OneDnnArm(const Shape& shape, Format format, std::size_t layers, const Threads& threads)
        : shape_(shape), threads_(threads), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
        products_.emplace_back(engine_, shape.d_model, shape.d_ff, Precision::type);
        if (shape.shared_d_ff > 0) {
            products_.emplace_back(engine_, shape.d_model, shape.shared_d_ff, Precision::type);
        }
        scratch_.resize(threads.concurrency());
        std::vector<float> plain(3 * shape.d_model * std::max(shape.d_ff, shape.shared_d_ff));
        for (std::size_t layer = 0; layer < layers; ++layer) {
            layers_.emplace_back(shape.n_experts * products_[0].packed_bytes() +
                                 (products_.size() > 1 ? products_[1].packed_bytes() : 0));
            for (std::size_t e = 0; e < expert_count(shape); ++e) {
                fill_expert(threads, shape, format, layer, e, plain.data());
                pack(plain.data(), layer, e);
            }
        }
    }

    [[nodiscard]] std::string_view name() const override { return Precision::name; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }

    void prepare(const Batch& batch) override {
        plans_.clear();
        std::size_t most = 0;
        for (const auto& plan : batch.plans) {
            plans_.push_back(expert_rows(plan.view(), shape_));
            most = std::max(most, plans_.back().back().first + plans_.back().back().tokens.size());
            for (const ExpertRows& rows : plans_.back()) {
                products_of(rows.expert).hidden.prepare(rows.tokens.size(), threads_);
                products_of(rows.expert).output.prepare(rows.tokens.size(), threads_);
            }
        }
        outputs_.resize(most * shape_.d_model);
        for (ThreadScratch& scratch : scratch_) {
            std::size_t bytes = 0;
            for (const Products& products : products_) {
                bytes = std::max({bytes, products.hidden.scratchpad_bytes(), products.output.scratchpad_bytes()});
            }
            scratch.memory = moe::AlignedBuffer(bytes);
        }
        choose_threads(batch);
    }

    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override {
        const std::vector<ExpertRows>& plan = plans_[turn.variant];
        if (spread_) {
            moe::TaskQueue queue;
            auto work = [&](std::size_t ith, std::size_t) {
                dnnl::stream stream(engine_);
                for (std::size_t i = queue.take(); i < plan.size(); i = queue.take()) {
                    compute(plan[i], batch.x, turn.layer, scratch_[ith], stream);
                }
            };
            threads_.run(work);
        } else {
            for (const ExpertRows& rows : plan) {
                compute(rows, batch.x, turn.layer, scratch_.front(), stream_);
            }
        }
        combine(plan, y);
    }

private:
    void choose_threads(const Batch& batch) {
        std::vector<float> memory(batch.tokens() * shape_.d_model);
        const auto y = moe::view(memory.data(), batch.tokens(), shape_.d_model);
        std::array<double, 2> best{std::numeric_limits<double>::max(), std::numeric_limits<double>::max()};
        for (const std::size_t variant : {0U, 1U, 2U}) {  // the first turn also warms up
            for (const bool spread : {false, true}) {
                spread_ = spread;
                double& time = best[spread ? 1 : 0];
                time = std::min(time, seconds_of([&] { run(batch, {0, variant}, y); }));
            }
        }
        spread_ = best[1] < best[0];
    }

    [[nodiscard]] Products& products_of(std::size_t e) { return products_[e < shape_.n_experts ? 0 : 1]; }
    [[nodiscard]] std::byte* packed(std::size_t layer, std::size_t e) const {
        return layers_[layer].as<std::byte>().data() + e * products_[0].packed_bytes();
    }
    [[nodiscard]] std::byte* packed_output(std::size_t layer, std::size_t e) {
        return packed(layer, e) + moe::round_up(products_of(e).hidden.weights().get_size(), 64);
    }

    /// Scales of the outputs of expert `e`: gate, up, then down.
    [[nodiscard]] std::size_t scales_at(std::size_t layer, std::size_t e) const {
        return layer * expert_count(shape_) + e;
    }

    void pack(float* plain, std::size_t layer, std::size_t e) {
        const std::size_t d_ff = expert_width(shape_, e);
        std::vector<float>& scales = weight_scales_.emplace_back();
        const auto reorder = [&](const InnerProduct& product, float* source, std::size_t outputs, std::size_t inputs,
                                 std::byte* target) {
            std::vector<Value> encoded(outputs * inputs);
            for (std::size_t o = 0; o < outputs; ++o) {
                scales.push_back(Precision::encode(source + o * inputs, inputs, &encoded[o * inputs]));
            }
            dnnl::memory from(product.plain_weights(Precision::type), engine_, encoded.data());
            dnnl::memory to(product.weights(), engine_, target);
            dnnl::reorder(from, to).execute(stream_, from, to);
            stream_.wait();
        };
        reorder(products_of(e).hidden, plain, 2 * d_ff, shape_.d_model, packed(layer, e));
        reorder(products_of(e).output, plain + 2 * d_ff * shape_.d_model, shape_.d_model, d_ff,
                packed_output(layer, e));
    }

    /// A sum as the value it stands for.
    static float value(Sum sum, float row, float weight) {
        return Precision::scaled ? static_cast<float>(sum) * (row * weight) : static_cast<float>(sum);
    }

    void compute(const ExpertRows& rows, moe::MatrixView<const float> x, std::size_t layer, ThreadScratch& scratch,
                 dnnl::stream& stream) {
        const std::size_t n = rows.tokens.size();
        const std::size_t d = shape_.d_model;
        const std::size_t d_ff = expert_width(shape_, rows.expert);
        const Products& products = products_of(rows.expert);
        const float* const weight_scales = weight_scales_[scales_at(layer, rows.expert)].data();
        scratch.x.resize(std::max(scratch.x.size(), n * std::max(d, d_ff)));
        scratch.scales.resize(std::max(scratch.scales.size(), n));
        scratch.sums.resize(std::max(scratch.sums.size(), n * std::max(2 * d_ff, d)));
        const auto gather = [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                scratch.scales[r] = Precision::encode(x.row(rows.tokens[r]), d, &scratch.x[r * d]);
            }
        };
        const auto activate = [&](std::size_t begin, std::size_t end) {
            std::vector<float> hidden(d_ff);
            for (std::size_t r = begin; r < end; ++r) {
                const Sum* const gate = &scratch.sums[r * 2 * d_ff];
                for (std::size_t i = 0; i < d_ff; ++i) {
                    const float g = value(gate[i], scratch.scales[r], weight_scales[i]);
                    hidden[i] =
                        g / (1.0F + std::exp(-g)) * value(gate[d_ff + i], scratch.scales[r], weight_scales[d_ff + i]);
                }
                scratch.scales[r] = Precision::encode(hidden.data(), d_ff, &scratch.x[r * d_ff]);
            }
        };
        over_rows(n, gather);
        products.hidden.run(n, spread_, scratch.x.data(), packed(layer, rows.expert), scratch.sums.data(),
                            scratch.memory.data(), stream);
        over_rows(n, activate);
        float* const outputs = &outputs_[rows.first * d];
        if constexpr (!Precision::scaled) {
            products.output.run(n, spread_, scratch.x.data(), packed_output(layer, rows.expert), outputs,
                                scratch.memory.data(), stream);
        } else {
            products.output.run(n, spread_, scratch.x.data(), packed_output(layer, rows.expert), scratch.sums.data(),
                                scratch.memory.data(), stream);
            over_rows(n, [&](std::size_t begin, std::size_t end) {
                for (std::size_t i = begin * d; i < end * d; ++i) {
                    outputs[i] = value(scratch.sums[i], scratch.scales[i / d], weight_scales[2 * d_ff + i % d]);
                }
            });
        }
    }

    /// On all threads if this is not already one of several.
    template <class Body>
    void over_rows(std::size_t n, Body&& body) const {
        if (spread_) {
            body(0, n);
        } else {
            threads_.split(n, 4, body);
        }
    }

    void combine(const std::vector<ExpertRows>& plan, moe::MatrixView<float> y) const {
        threads_.split(y.cols(), 16, [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = 0; t < y.rows(); ++t) {
                std::fill(y.row(t) + begin, y.row(t) + end, 0.0F);
            }
            for (const ExpertRows& rows : plan) {
                for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
                    float* const sum = y.row(rows.tokens[r]);
                    const float* const out = &outputs_[(rows.first + r) * shape_.d_model];
                    for (std::size_t c = begin; c < end; ++c) {
                        sum[c] += rows.weights[r] * out[c];
                    }
                }
            }
        });
    }

    Shape shape_;
    Threads threads_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    std::vector<Products> products_;
    std::vector<HugeBuffer> layers_;
    std::vector<ThreadScratch> scratch_;
    std::vector<std::vector<float>> weight_scales_;  ///< of each layer and expert, of its outputs
    std::vector<std::vector<ExpertRows>> plans_;
    std::vector<float> outputs_;
    bool spread_ = false;
};

}  // namespace

std::unique_ptr<Arm> make_onednn_arm(Rival rival, const Shape& shape, Format format, std::size_t layers,
                                     const Threads& threads) {
    switch (rival) {
        case Rival::onednn_bf16: return std::make_unique<OneDnnArm<InBfloat16>>(shape, format, layers, threads);
        case Rival::onednn_int8: return std::make_unique<OneDnnArm<InInt8>>(shape, format, layers, threads);
        default: return std::make_unique<OneDnnArm<InFloat32>>(shape, format, layers, threads);
    }
}

bool onednn_has(Rival rival) {
    try {
        const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
        const auto type = rival == Rival::onednn_bf16   ? InBfloat16::type
                          : rival == Rival::onednn_int8 ? InInt8::type
                                                        : InFloat32::type;
        InnerProduct(engine, 64, 64, type).prepare(4, Threads(1));
        return true;
    } catch (const dnnl::error&) {
        return false;
    }
}

std::string onednn_version() {
    const dnnl_version_t* const version = dnnl_version();
    return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

}  // namespace bench
