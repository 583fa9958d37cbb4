#include "experts_file.hpp"

#include <span>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <moe/core/random.hpp>
#include <moe/experts/expert_bank.hpp>

namespace bench {

namespace {

using Form = moe::Gated<moe::Silu>;

/// Every expert views the same numbers from another one on: as many bits to read, without their generation.
std::vector<const float*> pointers(const std::vector<float>& numbers, std::size_t n_experts, std::size_t first) {
    std::vector<const float*> experts;
    for (std::size_t e = 0; e < n_experts; ++e) {
        experts.push_back(numbers.data() + 3 * e + first);
    }
    return experts;
}

}  // namespace

ExpertsFile::ExpertsFile(const std::string& folder, const Sizes& sizes, moe::PackedOrder order,
                         const moe::ExecutorRef& threads)
    : path_(folder + "/experts-" + std::to_string(::getpid()) + ".moe") {
    const std::size_t matrix = sizes.d_model * sizes.d_ff;
    std::vector<float> numbers(matrix + 3 * sizes.n_experts);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = (moe::random_uniform(1, i) - 0.5F) / 16;
    }
    const moe::ExpertBank<float, Form> bank(
        Form{}, {.gate = moe::separate(pointers(numbers, sizes.n_experts, 0), sizes.d_ff, sizes.d_model),
                 .up = moe::separate(pointers(numbers, sizes.n_experts, 1), sizes.d_ff, sizes.d_model),
                 .down = moe::separate(pointers(numbers, sizes.n_experts, 2), sizes.d_model, sizes.d_ff)});
    moe::write_packed(path_, moe::PackedExperts<moe::Int4, Form>(bank, threads), threads, order);
    file_.emplace(moe::PackedFile::open(path_, moe::Verify::header));
    ranges_ = file_->expert_ranges();
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_RANDOM);
}

ExpertsFile::~ExpertsFile() {
    ::close(descriptor_);
    ::unlink(path_.c_str());
}

void ExpertsFile::keep_only(const std::vector<bool>& kept) const {
    const std::size_t page = pages_.page_bytes();
    const std::size_t before_data =
        file_->order() == moe::PackedOrder::apart ? moe::packed_expert_alignment : moe::detail::PackedHeader::bytes;
    const std::byte* const begin = file_->data().data() - before_data;
    const std::size_t bytes = before_data + file_->data().size();
    // everything out, out of the mapping first, since what is mapped stays; then what is kept in, and not a page more:
    // the descriptor is one that reads nothing ahead
    (void)::madvise(const_cast<std::byte*>(begin), bytes, MADV_DONTNEED);
    (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
    std::vector<std::byte> buffer;
    for (std::size_t e = 0; e < kept.size(); ++e) {
        for (const std::span<const std::byte> range : ranges_.of(e)) {
            const auto whole = moe::pages_of(range, page);
            if (kept[e]) {
                buffer.resize(whole.size());
                (void)!::pread(descriptor_, buffer.data(), buffer.size(), whole.data() - begin);
                (void)pages_.read(whole);
            }
        }
    }
    for (std::size_t e = 0; e < kept.size(); ++e) {
        for (const std::span<const std::byte> range : ranges_.of(e)) {
            const auto own = moe::pages_within(range, page);
            moe::ensure(own.empty() || pages_.resident(own) == kept[e], moe::ErrorCode::state, "the file system of '",
                        path_, "' does not read or drop what it is told to; --dir names another");
        }
    }
}

}  // namespace bench
