#include "measure.hpp"

#include <algorithm>
#include <optional>

#include <moe/instantiate.hpp>
#include <moe/io.hpp>

#include "../checkpoint/layer_calls.hpp"
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
    const std::size_t ids = bench::vocabulary(checkpoint, layer);
    for (const std::size_t count : tokens) {
        bench::LayerCalls calls(*packed, config, {count, ids}, threads);
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
