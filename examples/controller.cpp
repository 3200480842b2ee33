// Steer towards an instrument while its mask can be relied on; otherwise stand still. As controller.py, in C++17.
// In a package's CMakeLists.txt:
//   add_executable(controller controller.cpp)
//   ament_target_dependencies(controller rclcpp geometry_msgs sam2s_ros)
#include <chrono>
#include <memory>

#include "geometry_msgs/msg/twist_stamped.hpp"
#include "rclcpp/rclcpp.hpp"
#include "target.hpp"

class Controller : public rclcpp::Node {
public:
  Controller() : Node("controller") {
    object_id_ = declare_parameter("object_id", 1);
    max_age_ = declare_parameter("max_age", 0.3);
    command_ = create_publisher<geometry_msgs::msg::TwistStamped>("command", 1);
    masks_subscription_ = create_subscription<sam2s_ros::msg::TrackedMasks>(
      "masks", 1, [this](sam2s_ros::msg::TrackedMasks::ConstSharedPtr masks) {
        masks_ = masks;
        came_ = std::chrono::steady_clock::now();
      });
    const std::chrono::duration<double> period(1.0 / declare_parameter("rate", 50.0));
    timer_ = create_wall_timer(period, [this] { steer(); });  // silence must stop the robot, too
  }

private:
  void steer() {
    geometry_msgs::msg::TwistStamped command;
    command.header.stamp = now();
    const std::chrono::duration<double> silence = std::chrono::steady_clock::now() - came_;
    const auto found =
      target(masks_.get(), static_cast<uint32_t>(object_id_), now().seconds(), max_age_, silence.count());
    if (found.object) {  // from the image's centre to the object's, -1..1; a real robot needs a real control law
      command.twist.linear.x = 2 * (found.object->centroid_x + 0.5) / masks_->label_image.width - 1;
      command.twist.linear.y = 2 * (found.object->centroid_y + 0.5) / masks_->label_image.height - 1;
    } else {
      RCLCPP_WARN_THROTTLE(get_logger(), *get_clock(), 1000, "standing still: %s", found.why.c_str());
    }
    command_->publish(command);
  }

  int64_t object_id_;
  double max_age_;
  sam2s_ros::msg::TrackedMasks::ConstSharedPtr masks_;
  std::chrono::steady_clock::time_point came_;
  rclcpp::Publisher<geometry_msgs::msg::TwistStamped>::SharedPtr command_;
  rclcpp::Subscription<sam2s_ros::msg::TrackedMasks>::SharedPtr masks_subscription_;
  rclcpp::TimerBase::SharedPtr timer_;
};

int main(int argc, char ** argv) {
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<Controller>());
  rclcpp::shutdown();
}
