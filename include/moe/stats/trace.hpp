#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "../core/borrowed.hpp"
#include "../core/error.hpp"
#include "../layer/parts/observer.hpp"
#include "../routing/plan.hpp"
#include "trace_format.hpp"

namespace moe::inline MOE_ABI {

/// Records plans into bytes, compactly: 5 bytes an assignment of floats and up to 256 experts, one a token, eight a
/// plan. TraceReader gives each back with the same bits. What a gate dropped is not in a plan, and so not in a trace.
template <std::floating_point T>
class TraceWriter {
public:
    /// Throws Error(range) unless 1 <= n_experts <= max_trace_experts.
    explicit TraceWriter(std::size_t n_experts) : n_experts_(n_experts) {
        ensure(n_experts > 0 && n_experts <= max_trace_experts, ErrorCode::range, "TraceWriter: ", n_experts,
               " experts, it must be 1 to ", max_trace_experts);
        for (const unsigned char byte : detail::trace_magic) {
            bytes_.push_back(static_cast<std::byte>(byte));
        }
        for (const std::uint64_t number :
             {std::uint64_t{detail::trace_version}, std::uint64_t{detail::trace_byte_order},
              static_cast<std::uint64_t>(trace_weights<T>), std::uint64_t{n_experts}}) {
            detail::append_little_endian(bytes_, number, 4);
        }
    }

    /// Adds a plan. Throws Error, and adds nothing: a plan of another number of experts (shape), one that breaks its
    /// invariants (as check_plan). O(n_tokens + n_assignments).
    void append(const PlanView<T>& plan) {
        ensure(plan.n_experts == n_experts_, ErrorCode::shape, "TraceWriter: a plan of ", plan.n_experts,
               " experts, the trace is of ", n_experts_);
        check_plan(plan);
        const std::size_t id_bytes = detail::trace_id_bytes(n_experts_);
        bytes_.reserve(room_for(plan, id_bytes));  // first, so that one that fails adds nothing
        detail::append_little_endian(bytes_, plan.n_tokens, 4);
        detail::append_little_endian(bytes_, plan.n_assignments(), 4);
        for (std::size_t t = 0; t < plan.n_tokens; ++t) {
            detail::append_varint(bytes_, plan.token_offsets[t + 1] - plan.token_offsets[t]);
        }
        for (const ExpertId expert : plan.experts) {
            detail::append_little_endian(bytes_, static_cast<std::uint64_t>(expert), id_bytes);
        }
        for (const T weight : plan.weights) {
            detail::append_little_endian(bytes_, std::bit_cast<detail::BitsOf<T>>(weight), sizeof(T));
        }
        ++n_plans_;
    }

    void append(const RoutingPlan<T>& plan) { append(plan.view()); }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    /// Plans so far, those that were drained included.
    [[nodiscard]] std::size_t n_plans() const noexcept { return n_plans_; }

    /// What was written and not yet drained.
    [[nodiscard]] std::span<const std::byte> bytes() const& noexcept { return bytes_; }
    std::span<const std::byte> bytes() const&& = delete;  // temporary: give the writer a name

    /// Makes room for `n_bytes` of bytes(), so that append allocates nothing until they are full.
    void reserve(std::size_t n_bytes) { bytes_.reserve(n_bytes); }

    /// Hands bytes() to `stream.write(const char*, n)`, as a std::ostream has it, and forgets them but not their
    /// memory. The parts, one behind the other, are the trace. Whether the stream took them is for the caller to ask.
    template <class Stream>
    void drain(Stream& stream) {
        // n has the type std::ostream asks for, which <ios> need not be included to name
        stream.write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::ptrdiff_t>(bytes_.size()));
        bytes_.clear();
    }

private:
    /// Bytes with `plan` added, at most; at least twice what there is if it must grow, or many plans would copy each
    /// other's bytes again and again.
    [[nodiscard]] std::size_t room_for(const PlanView<T>& plan, std::size_t id_bytes) const {
        const std::size_t record = 8 + 5 * plan.n_tokens + plan.n_assignments() * (id_bytes + sizeof(T));
        const std::size_t needed = checked_add(bytes_.size(), record);
        return needed <= bytes_.capacity() ? needed : (std::max)(needed, 2 * bytes_.capacity());
    }

    std::size_t n_experts_;
    std::size_t n_plans_ = 0;
    std::vector<std::byte> bytes_;
};

/// Records the plan of every pass it watches; give it room with writer.reserve(), or it allocates as the trace grows.
/// Points to the writer, which must outlive it.
template <std::floating_point T>
class TraceRecorder : public Observer<T> {
public:
    explicit TraceRecorder(TraceWriter<T>& writer) : writer_(&writer) {}

    /// Throws as TraceWriter::append.
    void on_plan(const RoutingRecord<T>& record) override { writer_->append(record.plan); }

private:
    TraceWriter<T>* writer_;
};

/// Reads a trace of any origin: every length is held against what is left before memory is taken for it, so damaged
/// bytes give an Error or a valid plan, and never more memory than a few times their own size and the number of
/// experts. Views the bytes.
template <std::floating_point T>
class TraceReader {
public:
    /// Reads the header. Throws Error as read_trace_header, and Error(format) if the weights are not of type T.
    explicit TraceReader(Borrowed<const std::byte> trace) : cursor_(trace) {
        const TraceHeader header = detail::read_trace_header(cursor_);
        ensure(header.weights == trace_weights<T>, ErrorCode::format, "trace: its weights have ",
               header.weights == TraceWeights::float32 ? 32 : 64, " bits, asked for are ", 8 * sizeof(T));
        n_experts_ = header.n_experts;
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }

    /// Puts the next plan into `plan`; false, and `plan` as it was, behind the last. Throws Error, after which the
    /// reader is of no more use and `plan` as it was: truncated, layout (experts of tokens that do not add up), range
    /// (an expert that cannot be). O(n_tokens + n_assignments + n_experts).
    bool next(RoutingPlan<T>& plan) {
        if (cursor_.left() == 0) {
            return false;
        }
        const std::uint32_t n_tokens = cursor_.number32("the number of tokens of a plan");
        const std::uint32_t n_assignments = cursor_.number32("the number of assignments of a plan");
        read_counts(n_tokens, n_assignments);
        read_experts(n_assignments);
        read_weights(n_assignments);
        plan.assign(sorted_by_expert(n_tokens));
        return true;
    }

private:
    void read_counts(std::uint32_t n_tokens, std::uint32_t n_assignments) {
        // a count takes a byte at least
        ensure(n_tokens <= cursor_.left(), ErrorCode::truncated, "trace: a plan of ", n_tokens, " tokens with ",
               cursor_.left(), " bytes left");
        token_offsets_.assign(1, 0);
        token_offsets_.reserve(std::size_t{n_tokens} + 1);
        std::uint64_t sum = 0;
        for (std::uint32_t t = 0; t < n_tokens; ++t) {
            sum += cursor_.varint("the experts of a token");
            ensure(sum <= n_assignments, ErrorCode::layout, "trace: a plan of ", n_assignments,
                   " assignments gives its first ", t + 1, " tokens ", sum);
            token_offsets_.push_back(static_cast<Index>(sum));
        }
        ensure(sum == n_assignments, ErrorCode::layout, "trace: a plan of ", n_assignments,
               " assignments gives its tokens ", sum);
    }

    void read_experts(std::uint32_t n_assignments) {
        const std::size_t id_bytes = detail::trace_id_bytes(n_experts_);
        const std::span<const std::byte> bytes =
            cursor_.take(checked_multiply(n_assignments, id_bytes), "the experts of a plan");
        detail::TraceCursor ids(bytes);
        experts_.clear();
        experts_.reserve(n_assignments);
        for (std::uint32_t a = 0; a < n_assignments; ++a) {
            const std::uint64_t id = ids.number(id_bytes, "an expert");
            ensure(id < n_experts_, ErrorCode::range, "trace: an assignment names expert ", id, ", the experts are 0..",
                   n_experts_ - 1);
            experts_.push_back(static_cast<ExpertId>(id));
        }
    }

    void read_weights(std::uint32_t n_assignments) {
        const std::span<const std::byte> bytes =
            cursor_.take(checked_multiply(n_assignments, sizeof(T)), "the weights of a plan");
        detail::TraceCursor numbers(bytes);
        weights_.clear();
        weights_.reserve(n_assignments);
        for (std::uint32_t a = 0; a < n_assignments; ++a) {
            weights_.push_back(std::bit_cast<T>(static_cast<detail::BitsOf<T>>(numbers.number(sizeof(T), "a weight"))));
        }
    }

    /// The other order of the plan: a stable sort of the assignments by expert, counting.
    [[nodiscard]] PlanView<T> sorted_by_expert(std::size_t n_tokens) {
        expert_offsets_.assign(n_experts_ + 1, 0);
        tokens_.resize(experts_.size());
        assignments_.resize(experts_.size());
        for (const ExpertId expert : experts_) {
            ++expert_offsets_[static_cast<std::size_t>(expert)];
        }
        // each expert's end; filling from the last assignment to the first then moves it to the begin
        Index end = 0;
        for (Index& offset : expert_offsets_) {
            end += offset;
            offset = end;
        }
        for (std::size_t t = n_tokens; t-- > 0;) {
            for (Index a = token_offsets_[t + 1]; a-- > token_offsets_[t];) {
                const Index at = --expert_offsets_[static_cast<std::size_t>(experts_[a])];
                tokens_[at] = static_cast<Index>(t);
                assignments_[at] = a;
            }
        }
        return {n_tokens, n_experts_, token_offsets_, experts_, weights_, expert_offsets_, tokens_, assignments_};
    }

    detail::TraceCursor cursor_;
    std::size_t n_experts_ = 0;
    std::vector<Index> token_offsets_;
    std::vector<ExpertId> experts_;
    std::vector<T> weights_;
    std::vector<Index> expert_offsets_;
    std::vector<Index> tokens_;
    std::vector<Index> assignments_;
};

}  // namespace moe::inline MOE_ABI
