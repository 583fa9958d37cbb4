#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/error.hpp"
#include "file_bytes.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI::detail {

/// A file that appears under its name all at once: written under a temporary name in the same directory, flushed to the
/// device, then renamed over whatever had the name. Readers that mapped the old file keep it. Destroyed before
/// `commit()` has returned, or when any step fails, it removes the temporary file and leaves the old one alone.
class ReplacedFile {
public:
    /// Throws Error(file).
    explicit ReplacedFile(std::string path) : path_(std::move(path)), file_(create_beside()) {}
    ReplacedFile(const ReplacedFile&) = delete;
    ReplacedFile& operator=(const ReplacedFile&) = delete;
    ~ReplacedFile() { discard(); }

    /// Throws Error(file), e.g. where the device is full.
    void write(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto count = ::write(file_.get(), bytes.data(), bytes.size());
            if (count < 0 && errno != EINTR) {
                refuse("write", errno);
            }
            bytes = bytes.subspan(count > 0 ? static_cast<std::size_t>(count) : 0);
        }
    }

    /// Leaves `bytes` that read as 0, on most systems without room on the device. Something must be written behind
    /// them.
    void skip(std::size_t bytes) {
        if (bytes > 0 && ::lseek(file_.get(), static_cast<off_t>(bytes), SEEK_CUR) < 0) {
            refuse("write", errno);
        }
    }

    /// Gives the file its name. Throws Error(file).
    void commit() {
        if (::fsync(file_.get()) != 0) {
            refuse("flush", errno);
        }
        if (const int error = file_.close(); error != 0) {
            refuse("close", error);
        }
        if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
            refuse("replace", errno);
        }
        temporary_.clear();
    }

private:
    /// Opens a new file named after `path_` and the process. mkstemp would do, but its files are private to their owner
    /// and changing that needs the process-wide umask.
    [[nodiscard]] int create_beside() {
        constexpr int attempts = 1000;
        const std::string stem = path_ + ".part-" + std::to_string(::getpid()) + "-";
        for (int i = 0; i < attempts; ++i) {
            std::string candidate = stem + std::to_string(i);
            const int number = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (number >= 0) {
                temporary_ = std::move(candidate);
                return number;
            }
            if (errno != EEXIST) {
                refuse("create a file beside", errno);
            }
        }
        refuse("create a file beside", EEXIST);
    }

    /// Discards first: without exceptions the error handler never returns and no destructor would run.
    [[noreturn]] void refuse(const char* action, int number) {
        discard();
        raise_error(ErrorCode::file, "cannot ", action, " ", path_in_quotes(path_), ": ", system_text(number));
    }

    void discard() noexcept {
        if (!temporary_.empty()) {
            (void)::unlink(temporary_.c_str());
            temporary_.clear();
        }
    }

    std::string path_;
    std::string temporary_;
    FileDescriptor file_;
};

}  // namespace moe::inline MOE_ABI::detail
