#include "session.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "../formats.hpp"
#include "../formatted.hpp"
#include "../input.hpp"
#include "../noise.hpp"
#include "../probes/clock.hpp"
#include "../probes/fma.hpp"
#include "../reference.hpp"
#include "check.hpp"

namespace bench::backward {

/// Seconds of the passes of one arm.
struct Session::StepSamples {
    std::vector<double> forward;
    std::vector<double> backward;
    std::vector<double> both;

    [[nodiscard]] StepSeconds statistics() const {
        return {Statistics(forward), Statistics(backward), Statistics(both)};
    }
};

struct Session::Samples {
    std::vector<double> inference;
    StepSamples library;
    StepSamples one_thread;
    std::map<Rival, StepSamples> rivals;
    std::vector<double> fma;
    std::vector<double> read;
};

/// Rows (tokens, d_model) that the arms write, and the gradients of y that they get.
struct Session::Buffers {
    std::size_t tokens;
    std::size_t d_model;
    std::vector<float> y_memory;
    std::vector<float> dx_memory;
    std::vector<float> dy_memory;

    Buffers(std::size_t n, std::size_t d)
        : tokens(n), d_model(d), y_memory(n * d), dx_memory(n * d), dy_memory(random_normal(6, 0, n * d)) {}

    [[nodiscard]] moe::MatrixView<const float> dy() const { return moe::view(dy_memory.data(), tokens, d_model); }
    [[nodiscard]] moe::MatrixView<float> y() { return moe::view(y_memory.data(), tokens, d_model); }
    [[nodiscard]] moe::MatrixView<float> dx() { return moe::view(dx_memory.data(), tokens, d_model); }
};

/// What the library found, for the rivals.
struct Session::Expected {
    std::vector<float> y;
    std::vector<float> dx;
    std::vector<float> d_weights;
    Sample gradients;
};

namespace {

/// Bytes of the largest batch beside weights and gradients: the tape and the workspace, what rivals keep, and the
/// matrix of gradients that each thread of oneDNN writes.
double activation_bytes(const Shape& shape, const Plan& plan, const Threads& threads) {
    constexpr std::size_t tape_and_workspace = 5;
    const std::size_t values = plan.most_tokens * (shape.top_k * shape.d_ff + shape.shared_d_ff);
    const std::size_t matrix = sizeof(float) * shape.d_model * std::max(shape.d_ff, shape.shared_d_ff);
    const std::size_t rivals =
        plan.rivals.empty() ? 0 : Activations::bytes(shape, plan.most_tokens) + threads.concurrency() * matrix;
    return static_cast<double>(sizeof(float) * tape_and_workspace * values + rivals);
}

void complain(Row& row, std::string_view name, std::string_view what, double error) {
    row.wrong = true;
    row.note += "WRONG RESULT of " + std::string(name) + ", " + std::string(what) + formatted(": error %.3g; ", error);
}

}  // namespace

Session::Session(const Shape& shape, Plan plan, ReadProbe& read, const Threads& threads)
    : full_(&shape), shape_(shape), plan_(std::move(plan)), read_(&read), threads_(threads) {
    fit_memory();
    weights_ = std::make_unique<Parameters>(shape_);
    gradients_ = std::make_unique<Parameters>(shape_);
    weights_->fill(threads_);
    gradients_->clear(threads_);
    library_ = make_library_arm(shape_, *weights_, *gradients_, threads_);
    if (!plan_.rivals.empty()) {
        kept_ = std::make_unique<Activations>(shape_, plan_.most_tokens);
    }
    for (const Rival rival : plan_.rivals) {
        rivals_[rival] = make_rival(rival, shape_, *weights_, *gradients_, *kept_, threads_);
    }
}

/// As many experts as the budget allows with their gradients.
void Session::fit_memory() {
    constexpr double weight_and_gradient = 2.0 * sizeof(float);
    const double besides =
        activation_bytes(shape_, plan_, threads_) + weight_and_gradient * static_cast<double>(shape_.shared_weights());
    const double expert = weight_and_gradient * static_cast<double>(shape_.expert_weights() + shape_.d_model);
    const auto fitting = static_cast<std::size_t>(std::max(0.0, (plan_.budget - besides) / expert));
    if (fitting < shape_.n_experts) {
        shape_.n_experts = std::max(fitting, shape_.top_k);
        note_ += "only " + std::to_string(shape_.n_experts) + " of " + std::to_string(full_->n_experts) +
                 " experts fit with their gradients; ";
    }
    const double bytes = sizeof(float) * static_cast<double>(Parameters::count(shape_));
    if (bytes < 10.0 * static_cast<double>(last_level_cache())) {
        note_ += "weights are " + std::to_string(static_cast<std::size_t>(bytes / 1e6)) +
                 " MB, less than ten times the last-level cache of " + std::to_string(last_level_cache() / 1'000'000) +
                 " MB; ";
    }
}

/// The library against plain loops in double, and the rivals against the library.
void Session::check(const Batch& batch, Buffers& buffers, Row& row) {
    const Call call{batch, 0, buffers.dy()};
    gradients_->clear(threads_);
    library_->forward(batch, 0, buffers.y());
    const double error = reference_error(threads_, shape_, Format::f32, batch, 0, buffers.y());
    library_->backward(batch, 0, buffers.dy(), buffers.dx());
    const SampleError worst =
        largest_error(computed_sample(shape_, call, *gradients_, buffers.dx(), library_->d_weights()),
                      expected_sample(threads_, shape_, call, *weights_, library_->d_weights()));
    row.nmse = std::max(error, worst.nmse);
    if (!(error <= tolerance(Compute::exact, shape_.d_model))) {
        complain(row, library_->name(), "y", error);
    }
    if (!(worst.nmse <= tolerance(Compute::exact, shape_.d_model))) {
        complain(row, library_->name(), worst.name, worst.nmse);
    }
    if (rivals_.empty() || row.wrong) {
        return;
    }
    gradients_->clear(threads_);
    library_->forward(batch, 0, buffers.y());
    library_->backward_experts(batch, 0, buffers.dy(), buffers.dx());
    const Sample gradients = computed_sample(shape_, call, *gradients_, buffers.dx(), library_->d_weights());
    const Expected expected{
        buffers.y_memory, buffers.dx_memory, {library_->d_weights().begin(), library_->d_weights().end()}, gradients};
    for (const auto& [rival, arm] : rivals_) {
        check_rival(*arm, batch, buffers, expected, row);
    }
}

void Session::check_rival(Arm& arm, const Batch& batch, Buffers& buffers, const Expected& expected, Row& row) {
    gradients_->clear(threads_);
    arm.forward(batch, 0, buffers.y());
    arm.backward(batch, 0, buffers.dy(), buffers.dx());
    const auto compare = [&](std::string_view what, double error) {
        if (!(error <= tolerance(Compute::exact, shape_.d_model))) {
            complain(row, arm.name(), what, error);
        }
    };
    compare("y", relative_error(buffers.y(), expected.y));
    compare("dx", relative_error(buffers.dx(), expected.dx));
    compare("d_weights",
            relative_error(moe::view(arm.d_weights().data(), 1, arm.d_weights().size()), expected.d_weights));
    Sample gradients = expected.gradients;
    gradients.erase("router");
    const SampleError worst = largest_error(
        computed_sample(shape_, {batch, 0, buffers.dy()}, *gradients_, buffers.dx(), arm.d_weights()), gradients);
    compare(worst.name, worst.nmse);
}

/// Forward and backward in turn, timed apart.
void Session::step(Arm& arm, const Batch& batch, Buffers& buffers, StepSamples& samples) {
    std::vector<double> ignored;
    time_slice(ignored, [&] {
        const std::size_t variant = next_variant(batch);
        samples.forward.push_back(seconds_of([&] { arm.forward(batch, variant, buffers.y()); }));
        samples.backward.push_back(seconds_of([&] { arm.backward(batch, variant, buffers.dy(), buffers.dx()); }));
        samples.both.push_back(samples.forward.back() + samples.backward.back());
    });
}

/// Library and rivals in turn, the probes before each of them: all of them see the same disturbances of the machine.
void Session::one_round(const Batch& batch, Buffers& buffers, Samples& samples) {
    std::vector<std::pair<Arm*, StepSamples*>> arms{{library_.get(), &samples.library}};
    for (const auto& [rival, arm] : rivals_) {
        arms.emplace_back(arm.get(), &samples.rivals[rival]);
    }
    if (round_++ % 2 == 1) {
        std::ranges::reverse(arms);
    }
    for (const auto& [arm, times] : arms) {
        samples.fma.push_back(fma_peak(threads_));
        samples.read.push_back((*read_)(std::as_bytes(weights_->all())));
        if (arm == library_.get()) {
            time_slice(samples.inference, [&] { library_->infer(batch, next_variant(batch), buffers.y()); });
        }
        step(*arm, batch, buffers, *times);
    }
    if (threads_.concurrency() > 1) {
        library_->use(threads_.only(1));
        step(*library_, batch, buffers, samples.one_thread);
        library_->use(threads_);
    }
}

void Session::rounds(const Batch& batch, Buffers& buffers, Samples& samples) {
    constexpr double patience = 25;  // rivals may be much slower than the library
    constexpr std::size_t least = 3;
    constexpr std::size_t wanted = 5;
    const auto begin = std::chrono::steady_clock::now();
    double library = 0;
    for (std::size_t done = 0; done < wanted || library < plan_.min_time; ++done) {
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
        if (done >= least && elapsed.count() > patience * plan_.min_time) {
            break;
        }
        const std::size_t before = samples.library.both.size();
        one_round(batch, buffers, samples);
        for (std::size_t i = before; i < samples.library.both.size(); ++i) {
            library += samples.library.both[i];
        }
    }
}

Row Session::measure(std::size_t tokens) {
    Row row;
    row.shape = full_;
    row.n_experts = shape_.n_experts;
    row.tokens = tokens;
    row.threads = threads_.concurrency();
    row.kernel = library_->kernel();
    row.setup_note = note_;

    constexpr std::size_t variants = 4;
    const RoutingTable table(shape_, plan_.routing, tokens);
    const std::vector<float> x = random_input(tokens * shape_.d_model);
    Buffers buffers(tokens, shape_.d_model);
    Batch batch;
    batch.x = moe::view(x.data(), tokens, shape_.d_model);
    batch.table = &table;
    library_->prepare(batch);
    library_->route(batch, variants);

    const NoiseWatch noise;
    for (const auto& [rival, arm] : rivals_) {
        arm->prepare(batch);
    }
    check(batch, buffers, row);
    if (row.wrong) {
        return row;
    }
    Samples samples;
    rounds(batch, buffers, samples);

    double distinct = 0;
    for (std::size_t variant = 0; variant < variants; ++variant) {
        distinct += static_cast<double>(table.distinct(variant)) / static_cast<double>(variants);
    }
    row.distinct_experts = distinct;
    row.operations = step_operations(shape_, tokens);
    row.bytes = step_bytes(shape_, distinct);
    row.inference = Statistics(samples.inference);
    row.library = samples.library.statistics();
    row.one_thread = samples.one_thread.statistics();
    for (const auto& [rival, times] : samples.rivals) {
        row.rivals[rival] = times.statistics();
    }
    row.fma_peak = Statistics(samples.fma).median;
    row.read_bandwidth = Statistics(samples.read).median;
    row.workspace_bytes = library_->workspace_bytes();
    row.note += noise.note(row.library.both, Statistics(samples.fma), Statistics(samples.read));
    return row;
}

}  // namespace bench::backward
