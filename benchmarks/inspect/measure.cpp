#include "measure.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include <moe/instantiate.hpp>
#include <moe/io.hpp>

#include "../input.hpp"
#include "../memory.hpp"
#include "../probes/clock.hpp"
#include "../threads.hpp"
#include "limits.hpp"
#include "words.hpp"

namespace inspect {

namespace {

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

/// Rows of the table of a hash gate, from which tokens are taken.
std::size_t vocabulary(const moe::Checkpoint& checkpoint, std::size_t layer) {
    std::size_t rows = 1;
    const std::vector<std::string> names = checkpoint.tensors(layer);
    for (const moe::CheckpointTensor& tensor : checkpoint.all_tensors()) {
        if (tensor.shape.size() == 2 && (tensor.type == "I32" || tensor.type == "I64") &&
            std::ranges::find(names, tensor.name) != names.end()) {
            rows = std::max(rows, tensor.shape[0]);
        }
    }
    return rows;
}

/// Calls on windows of one stream of random tokens: each goes to other experts.
class Calls {
public:
    Calls(const moe::AnyLayer<float>& layer, const moe::MoEConfig& config, std::size_t tokens, std::size_t vocabulary,
          const bench::Threads& threads)
        : layer_(layer),
          threads_(threads),
          tokens_(tokens),
          width_(config.d_model),
          router_width_(config.d_router),
          x_(bench::random_input((tokens + windows) * config.d_model)),
          router_x_(config.d_router > 0 ? bench::random_input((tokens + windows) * config.d_router)
                                        : std::vector<float>()),
          y_(tokens * config.d_model) {
        for (std::size_t i = 0; i < tokens + windows; ++i) {
            ids_.push_back(static_cast<std::int32_t>(moe::random_bits(7, i) % vocabulary));
        }
    }

    void operator()() {
        const std::size_t first = turn_++ * 17 % windows;
        moe::ForwardOptions<float> options;
        options.token_ids = std::span<const std::int32_t>(ids_).subspan(first, tokens_);
        if (router_width_ > 0) {
            options.router_input =
                moe::view(std::as_const(router_x_).data() + first * router_width_, tokens_, router_width_);
        }
        layer_.forward(moe::view(std::as_const(x_).data() + first * width_, tokens_, width_),
                       moe::view(y_.data(), tokens_, width_), workspace_, threads_, options);
    }

private:
    static constexpr std::size_t windows = 64;

    const moe::AnyLayer<float>& layer_;
    bench::Threads threads_;
    std::size_t tokens_;
    std::size_t width_;
    std::size_t router_width_;
    std::vector<float> x_;
    std::vector<float> router_x_;
    std::vector<float> y_;
    std::vector<std::int32_t> ids_;
    moe::Workspace workspace_;
    std::size_t turn_ = 0;
};

}  // namespace

MeasuredLayer measure_layer(const moe::Checkpoint& checkpoint, std::size_t layer, std::span<const std::size_t> tokens,
                            std::size_t n_threads) {
    const bench::Threads threads(n_threads);
    const moe::MoEConfig config = checkpoint.config(layer);
    MeasuredLayer measured;
    measured.layer = layer;
    measured.threads = threads.concurrency();
    measured.bytes = static_cast<double>(checkpoint.packed_bytes(layer));
    measured.cache = static_cast<double>(bench::last_level_cache());
    const double free = usable_memory().free;
    moe::ensure(free == 0 || measured.bytes < 0.9 * free, moe::ErrorCode::capacity, "layer ", layer, " needs ",
                bytes_text(measured.bytes).c_str(), " packed, but only ", bytes_text(free).c_str(),
                " of memory are free");
    std::optional<moe::AnyLayer<float>> packed;
    measured.packing_seconds =
        bench::seconds_of([&] { packed = checkpoint.pack(layer, moe::Format::as_stored, threads); });
    const moe::LayerDescription description = packed->describe();
    measured.kernel = description.hidden.weights + ": " + description.hidden.kernel;
    const std::size_t ids = config.gate == moe::GateKind::hash ? vocabulary(checkpoint, layer) : 1;
    for (const std::size_t count : tokens) {
        Calls calls(*packed, config, count, ids, threads);
        calls();  // memory grows
        std::vector<double> times;
        double spent = 0;
        while (times.size() < 5 || (spent < 0.5 && times.size() < 100000)) {
            times.push_back(bench::seconds_of(calls));
            spent += times.back();
            if (spent > 10) {
                break;
            }
        }
        measured.speeds.push_back({count, median(times)});
    }
    return measured;
}

}  // namespace inspect
