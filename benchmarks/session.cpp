#include "session.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "input.hpp"
#include "memory.hpp"
#include "noise.hpp"
#include "probes/bfloat16.hpp"
#include "probes/clock.hpp"
#include "probes/fma.hpp"
#include "probes/int8.hpp"
#include "reference.hpp"

namespace bench {

struct Session::Samples {
    std::vector<double> library;
    std::vector<double> fma;
    std::vector<double> int8;
    std::vector<double> bfloat16;
    std::vector<double> unit_int8;
    std::vector<double> read;
    std::vector<double> route_share;
    const Batch* one_expert_batch = nullptr;  ///< null where scaling is not measured
    std::vector<double> one_expert;
    std::vector<double> one_thread;
    std::map<Rival, std::vector<double>> rivals;
};

Session::Session(const Shape& shape, Format format, Compute compute, Plan plan, ReadProbe& read, const Threads& threads)
    : full_(&shape),
      shape_(shape),
      format_(format),
      compute_(compute),
      plan_(std::move(plan)),
      read_(&read),
      threads_(threads),
      loaded_(std::numeric_limits<std::size_t>::max()) {
    std::erase_if(plan_.rivals, [&](Rival rival) { return !is_rival_of(rival, format_); });
    fit_memory();
    make_stages();
    library_ = std::make_unique<LibraryArm>(shape_, format_, compute_, layers_, threads_);
}

/// As many experts, then as many layers in rotation, as the budget allows, beside either the expert that is being
/// packed or, later, a rival.
void Session::fit_memory() {
    const double packed = info(format_).bytes_per_weight;
    const double packing =
        (sizeof(float) + packed) * static_cast<double>(std::max(shape_.expert_weights(), shape_.shared_weights()));
    double rivals = 0;  // bytes a weight
    for (const Rival rival : plan_.rivals) {
        rivals = std::max(rivals, rival_layer_bytes(rival, shape_, format_) / static_cast<double>(shape_.weights()));
    }
    const double expert = (packed + rivals) * static_cast<double>(shape_.expert_weights());
    const double shared = (packed + rivals) * static_cast<double>(shape_.shared_weights());
    const double besides = std::max(shared, packed * static_cast<double>(shape_.shared_weights()) + packing);
    const auto fitting = static_cast<std::size_t>(std::max(0.0, (plan_.budget - besides) / expert));
    if (fitting < shape_.n_experts) {
        shape_.n_experts = std::max(fitting, shape_.top_k);
        note_ +=
            "only " + std::to_string(shape_.n_experts) + " of " + std::to_string(full_->n_experts) + " experts fit; ";
    }
    const double layer = packed * static_cast<double>(shape_.weights());
    const double wanted = std::ceil(10.0 * static_cast<double>(last_level_cache()) / layer);
    const double possible =
        std::floor((plan_.budget - std::max(rivals * static_cast<double>(shape_.weights()), packing)) / layer);
    const double layers = std::max(1.0, std::min({wanted, possible, 256.0}));
    layers_ = static_cast<std::size_t>(layers);
    if (layers < wanted) {
        const auto megabytes = static_cast<std::size_t>(layers * layer / 1e6);
        note_ += "weights are " + std::to_string(megabytes) + " MB, less than ten times the last-level cache of " +
                 std::to_string(last_level_cache() / 1'000'000) + " MB; ";
    }
}

/// Rivals are together in memory as far as they fit; the others take turns, each beside the library.
void Session::make_stages() {
    const double layer = info(format_).bytes_per_weight * static_cast<double>(shape_.weights());
    const double free = plan_.budget - static_cast<double>(layers_) * layer;
    double left = 0;
    for (const Rival rival : plan_.rivals) {
        const double bytes = rival_layer_bytes(rival, shape_, format_);
        if (stages_.empty() || bytes > left) {
            stages_.emplace_back();
            left = free;
        }
        stages_.back().push_back(rival);
        left -= bytes;
    }
    if (stages_.empty()) {
        stages_.emplace_back();
    }
}

void Session::load(std::size_t stage) {
    if (stage == loaded_) {
        return;
    }
    rivals_.clear();
    double left = plan_.budget -
                  static_cast<double>(layers_) * info(format_).bytes_per_weight * static_cast<double>(shape_.weights());
    left /= static_cast<double>(std::max<std::size_t>(1, stages_[stage].size()));
    for (const Rival rival : stages_[stage]) {
        const double bytes = rival_layer_bytes(rival, shape_, format_);
        const double wanted = std::ceil(10.0 * static_cast<double>(last_level_cache()) / bytes);
        const auto layers = static_cast<std::size_t>(std::clamp(left / bytes, 1.0, std::min(wanted, 64.0)));
        rivals_[rival] = make_rival(rival, shape_, format_, compute_, layers, threads_);
    }
    loaded_ = stage;
}

Turn Session::next_turn(const Arm& arm, const Batch& batch) {
    const std::size_t turn = turn_++;
    return {turn % arm.layers(), turn % batch.table->variants()};
}

namespace {

void complain(Row& row, std::string_view name, double error) {
    row.wrong = true;
    row.note += "WRONG RESULT of " + std::string(name) + ": error " + std::to_string(error) + "; ";
}

}  // namespace

/// Every arm against what it should compute; a rival that computes the same as the library also against the library.
void Session::check(const Batch& batch, moe::MatrixView<float> y, Row& row) {
    const Turn first{};
    library_->run(batch, first, y);
    const double error = reference_error(threads_, shape_, format_, batch, first.variant, y);
    row.nmse = error;
    if (!(error <= tolerance(compute_, shape_.d_model))) {
        complain(row, library_->name(), error);
    }
    const std::vector<float> expected(y.data(), y.data() + y.rows() * y.cols());
    for (const auto& [rival, arm] : rivals_) {
        arm->run(batch, first, y);
        const double difference =
            rival == Rival::dense ? dense_error(threads_, shape_, format_, batch, y) : relative_error(y, expected);
        if (!(difference <= tolerance(compute_, shape_.d_model) + rival_rounding(rival))) {
            complain(row, arm->name(), difference);
        }
    }
}

/// One thread against all, and one expert against plain loops.
void Session::check_scaling(const Batch& batch, const Batch& one_expert, moe::MatrixView<float> y, Row& row) {
    const Turn first{};
    library_->run(batch, first, y);
    const std::vector<float> expected(y.data(), y.data() + y.rows() * y.cols());
    library_->run_alone(batch, first, y);
    if (!std::equal(expected.begin(), expected.end(), y.data())) {
        complain(row, "one thread", relative_error(y, expected));
    }
    library_->prepare(one_expert);
    library_->run(one_expert, first, y);
    const double error = reference_error(threads_, shape_, format_, one_expert, first.variant, y);
    if (!(error <= tolerance(compute_, shape_.d_model))) {
        complain(row, "one expert", error);
    }
    library_->prepare(batch);
}

void Session::scaling_round(const Batch& batch, moe::MatrixView<float> y, Samples& samples) {
    time_slice(samples.one_thread, [&] { library_->run_alone(batch, next_turn(*library_, batch), y); });
    const Batch& one_expert = *samples.one_expert_batch;
    library_->prepare(one_expert);
    time_slice(samples.one_expert, [&] { library_->run(one_expert, next_turn(*library_, one_expert), y); });
    library_->prepare(batch);
}

/// Probes, library, rivals, each for a moment: all of them see the same disturbances of the machine.
void Session::one_round(const Batch& batch, moe::MatrixView<float> y, Samples& samples) {
    samples.fma.push_back(fma_peak(threads_));
    if (const double peak = int8_peak(threads_); peak > 0) {
        samples.int8.push_back(peak);
    }
    if (const double peak = bfloat16_peak(threads_); peak > 0) {
        samples.bfloat16.push_back(peak);
    }
    if (const double peak = unit_int8_peak(threads_); peak > 0) {
        samples.unit_int8.push_back(peak);
    }
    // of the layer whose turn is last: what is read of it is out of the cache again when it is used
    const std::size_t n_layers = library_->layers();
    samples.read.push_back((*read_)(library_->weights((turn_ + n_layers - 1) % n_layers)));
    std::vector<std::pair<Arm*, std::vector<double>*>> arms{{library_.get(), &samples.library}};
    for (const auto& [rival, arm] : rivals_) {
        arms.emplace_back(arm.get(), &samples.rivals[rival]);
    }
    if (round_++ % 2 == 1) {
        std::ranges::reverse(arms);
    }
    for (const auto& [arm, times] : arms) {
        time_slice(*times, [&, &arm = *arm] { arm.run(batch, next_turn(arm, batch), y); });
    }
    if (samples.one_expert_batch != nullptr) {
        scaling_round(batch, y, samples);
    }
    const PhaseSeconds phases = library_->observe(batch, next_turn(*library_, batch), y);
    samples.route_share.push_back(phases.route / phases.total);
}

void Session::rounds(const Batch& batch, moe::MatrixView<float> y, double min_time, Samples& samples) {
    constexpr double patience = 25;  // rivals may be much slower than the library
    double library = 0;
    const auto begin = std::chrono::steady_clock::now();
    std::size_t done = 0;
    for (; done < 3 || library < min_time || done < plan_.min_rounds; ++done) {
        const std::size_t before = samples.library.size();
        one_round(batch, y, samples);
        for (std::size_t i = before; i < samples.library.size(); ++i) {
            library += samples.library[i];
        }
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
        if (done >= 2 && elapsed.count() > patience * min_time) {
            break;
        }
    }
}

Row Session::measure(std::size_t tokens, bool scaling) {
    Row row;
    row.shape = full_;
    row.n_experts = shape_.n_experts;
    row.layers = layers_;
    row.format = format_;
    row.compute = compute_;
    row.tokens = tokens;
    row.threads = threads_.concurrency();
    row.kernel = library_->kernel();
    row.setup_note = note_;

    const RoutingTable table(shape_, plan_.routing, tokens);
    const std::vector<float> x = random_input(tokens * shape_.d_model);
    std::vector<float> y_memory(tokens * shape_.d_model);
    const auto y = moe::view(y_memory.data(), tokens, shape_.d_model);
    Batch batch;
    batch.x = moe::view(x.data(), tokens, shape_.d_model);
    batch.table = &table;
    library_->prepare(batch);
    library_->route(batch);
    row.workspace_bytes = library_->workspace_bytes(batch, y);
    const RoutingTable one_expert_table(shape_, Routing::one, tokens);
    Batch one_expert;
    one_expert.x = batch.x;
    one_expert.table = &one_expert_table;
    if (scaling) {
        library_->prepare(one_expert);
        library_->route(one_expert);
        library_->prepare(batch);
        check_scaling(batch, one_expert, y, row);
    }

    Samples samples;
    samples.one_expert_batch = scaling ? &one_expert : nullptr;
    const NoiseWatch noise;
    const std::size_t first = loaded_ < stages_.size() ? loaded_ : 0;  // the rivals that are there need no loading
    for (std::size_t i = 0; i < stages_.size(); ++i) {
        load((first + i) % stages_.size());
        for (const auto& [rival, arm] : rivals_) {
            arm->prepare(batch);
        }
        check(batch, y, row);
        if (row.wrong) {
            return row;
        }
        rounds(batch, y, plan_.min_time / static_cast<double>(stages_.size()), samples);
    }

    row.distinct_experts = table.mean_distinct();
    row.operations = shape_.operations(tokens);
    row.weight_bytes =
        info(format_).bytes_per_weight * (row.distinct_experts * static_cast<double>(shape_.expert_weights()) +
                                          static_cast<double>(shape_.shared_weights()));
    row.seconds = Statistics(samples.library);
    row.fma_peak = Statistics(samples.fma).median;
    row.int8_peak = Statistics(samples.int8).median;
    row.bfloat16_peak = Statistics(samples.bfloat16).median;
    row.unit_int8_peak = Statistics(samples.unit_int8).median;
    row.read_bandwidth = Statistics(samples.read).median;
    row.one_thread = Statistics(samples.one_thread);
    row.one_expert = Statistics(samples.one_expert);
    row.route_share = Statistics(samples.route_share).median;
    for (const auto& [rival, times] : samples.rivals) {
        row.rival_seconds[rival] = Statistics(times);
    }
    row.note += noise.note(row.seconds, Statistics(samples.fma), Statistics(samples.read));
    return row;
}

}  // namespace bench
