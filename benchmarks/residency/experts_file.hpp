#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <moe/experts/any_form.hpp>
#include <moe/io/expert_residency.hpp>
#include <moe/io/packed_file.hpp>

namespace bench {

/// A file of packed Int4 experts of random weights, mapped, whose experts can be thrown out of memory. It is removed
/// with this object.
class ExpertsFile {
public:
    struct Sizes {
        std::size_t n_experts = 128;
        std::size_t d_model = 2048;
        std::size_t d_ff = 768;
    };

    /// Writes `folder`/experts-<process>.moe. Throws moe::Error.
    ExpertsFile(const std::string& folder, const Sizes& sizes, moe::PackedOrder order, const moe::ExecutorRef& threads);
    ExpertsFile(const ExpertsFile&) = delete;
    ExpertsFile& operator=(const ExpertsFile&) = delete;
    ~ExpertsFile();

    [[nodiscard]] const moe::PackedFile& packed() const noexcept { return *file_; }
    [[nodiscard]] const moe::ExpertRanges& ranges() const noexcept { return ranges_; }

    /// Only these experts are in memory, all of their pages mapped. Throws moe::Error(state) where the file system
    /// keeps what it is told to drop.
    void keep_only(const std::vector<bool>& kept) const;

private:
    std::string path_;
    int descriptor_ = -1;
    std::optional<moe::PackedFile> file_;
    moe::ExpertRanges ranges_{0};
    moe::Pages pages_;
};

}  // namespace bench
